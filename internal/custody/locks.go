package custody

import "sync"

// locks are one lock a name, there as long as somebody uses it. The zero value
// is ready.
type locks struct {
	mu    sync.Mutex
	names map[string]*named
}

type named struct {
	sync.Mutex
	users int
}

// lock waits for the name's lock and returns what lets go of it.
func (l *locks) lock(name string) (unlock func()) {
	l.mu.Lock()
	if l.names == nil {
		l.names = map[string]*named{}
	}
	n := l.names[name]
	if n == nil {
		n = new(named)
		l.names[name] = n
	}
	n.users++
	l.mu.Unlock()
	n.Lock()
	return func() {
		n.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(l.names, name)
		}
	}
}

//go:build js && wasm

// For WebAssembly the program defines one function on the global object and
// stays alive for it:
//
//	zhenglianVerify({size, read(offset, length) → Promise<Uint8Array>},
//	                {policy, alliance, lang, progress(done, total)})
//	    → Promise<{status, verdict, report, html}>
//
// size and offset are bytes. policy is the text of a policy file and alliance a
// pinned id; both may be absent. status is the exit status of the command line
// (0 matches, 1 anything else, 2 unreadable, with the reason in error). report is
// the report as JSON, html the page. The package is read in windows through
// read, so that the memory used does not grow with it; nothing is sent
// anywhere.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall/js"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/verify"
	"github.com/zhenglian/zhenglian/verify/command"
	"github.com/zhenglian/zhenglian/verify/render"
)

func main() {
	js.Global().Set("zhenglianVerify", js.FuncOf(start))
	if ready := js.Global().Get("zhenglianVerifyReady"); ready.Type() == js.TypeFunction {
		ready.Invoke()
	}
	select {} // the page calls the function as long as it is open
}

// start returns a promise at once: reading waits for the event loop, which this
// call would hold up.
func start(_ js.Value, args []js.Value) any {
	var executor js.Func
	executor = js.FuncOf(func(_ js.Value, settle []js.Value) any {
		resolve := settle[0]
		go func() {
			defer executor.Release()
			resolve.Invoke(run(args))
		}()
		return nil
	})
	return js.Global().Get("Promise").New(executor)
}

func run(args []js.Value) map[string]any {
	fail := func(err error) map[string]any {
		return map[string]any{"status": command.ExitUnreadable, "error": err.Error()}
	}
	if len(args) < 1 || args[0].Get("read").Type() != js.TypeFunction || args[0].Get("size").Type() != js.TypeNumber {
		return fail(errors.New("the first argument is {size, read(offset, length)}"))
	}
	options := js.Undefined()
	if len(args) > 1 && args[1].Type() == js.TypeObject {
		options = args[1]
	}
	lang := text(options, "lang")
	if lang == "" {
		lang = "zh-CN"
	}
	r, err := render.New(lang)
	if err != nil {
		return fail(err)
	}
	opts, err := parseOptions(options)
	if err != nil {
		return fail(err)
	}
	size := int64(args[0].Get("size").Float())
	rep, err := verify.Check(context.Background(), &windowReader{read: args[0].Get("read"), size: size}, size, opts)
	if err != nil {
		return fail(errors.New(r.Unreadable(err)))
	}
	report, err := json.Marshal(rep)
	if err != nil {
		return fail(err)
	}
	var page strings.Builder
	if err := r.HTML(&page, rep); err != nil {
		return fail(err)
	}
	status := command.ExitOther
	if rep.Verdict == verify.Matches && rep.IssuerEstablished {
		status = command.ExitMatches
	}
	return map[string]any{"status": status, "verdict": string(rep.Verdict), "report": string(report), "html": page.String()}
}

func text(v js.Value, name string) string {
	if v.Type() != js.TypeObject {
		return ""
	}
	if t := v.Get(name); t.Type() == js.TypeString {
		return t.String()
	}
	return ""
}

func parseOptions(v js.Value) (opts verify.Options, err error) {
	if p := text(v, "policy"); p != "" {
		if opts.Policy, err = evidence.ParsePolicy([]byte(p)); err != nil {
			return opts, fmt.Errorf("reading the policy: %w", err)
		}
	}
	if a := text(v, "alliance"); a != "" {
		id, err := evidence.ParseDigest(a)
		if err != nil {
			return opts, fmt.Errorf("the alliance id: %w", err)
		}
		opts.Alliance = &id
	}
	if v.Type() == js.TypeObject {
		if p := v.Get("progress"); p.Type() == js.TypeFunction {
			opts.Progress = func(done, total int64) { p.Invoke(float64(done), float64(total)) }
		}
	}
	return opts, nil
}

// window is how much is asked of the page at once: one call for each small read
// would cost more than the reading.
const window = 1 << 20

// windowReader reads through a JavaScript function, one window at a time.
type windowReader struct {
	read js.Value
	size int64
	buf  []byte
	at   int64 // offset of buf
}

func (w *windowReader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= w.size {
			return n, io.EOF
		}
		if at < w.at || at >= w.at+int64(len(w.buf)) {
			if err := w.fill(at); err != nil {
				return n, err
			}
		}
		n += copy(p[n:], w.buf[at-w.at:])
	}
	return n, nil
}

func (w *windowReader) fill(at int64) error {
	start := at - at%window
	length := min(window, w.size-start)
	data, err := await(w.read.Invoke(float64(start), float64(length)))
	if err != nil {
		return fmt.Errorf("reading %d bytes at %d: %w", length, start, err)
	}
	if !data.InstanceOf(js.Global().Get("Uint8Array")) || int64(data.Length()) != length {
		return fmt.Errorf("reading %d bytes at %d: the page did not return a Uint8Array of that length", length, start)
	}
	if cap(w.buf) < window {
		w.buf = make([]byte, window)
	}
	w.buf, w.at = w.buf[:length], start
	js.CopyBytesToGo(w.buf, data)
	return nil
}

// await waits for a promise, and takes a value that is none as it is.
func await(v js.Value) (js.Value, error) {
	if v.Type() != js.TypeObject || v.Get("then").Type() != js.TypeFunction {
		return v, nil
	}
	type outcome struct {
		value js.Value
		err   error
	}
	done := make(chan outcome, 1)
	resolved := js.FuncOf(func(_ js.Value, args []js.Value) any {
		v := js.Undefined()
		if len(args) > 0 {
			v = args[0]
		}
		done <- outcome{value: v}
		return nil
	})
	defer resolved.Release()
	rejected := js.FuncOf(func(_ js.Value, args []js.Value) any {
		reason := "rejected"
		if len(args) > 0 {
			reason = args[0].Call("toString").String()
		}
		done <- outcome{err: errors.New(reason)}
		return nil
	})
	defer rejected.Release()
	v.Call("then", resolved, rejected)
	o := <-done
	return o.value, o.err
}

package clean

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// TimeSource tells how far this machine's clock is behind it.
type TimeSource interface {
	Name() string
	Offset(ctx context.Context) (time.Duration, error)
}

// NTP is a server asked by SNTP (RFC 4330); Addr has a port. Its answer is not
// authenticated: it shows a clock that is wrong, and does not prove one right.
type NTP struct{ Addr string }

// Name implements TimeSource.
func (s NTP) Name() string { return "ntp " + s.Addr }

// ntpEpoch is 1900-01-01 in Unix seconds.
const ntpEpoch = 2208988800

// Offset implements TimeSource.
func (s NTP) Offset(ctx context.Context) (time.Duration, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", s.Addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(at); err != nil {
			return 0, err
		}
	}
	sent := time.Now()
	var ask [48]byte
	ask[0] = 4<<3 | 3 // version 4, client
	putNTP(ask[40:], sent)
	if _, err := conn.Write(ask[:]); err != nil {
		return 0, err
	}
	var answer [512]byte
	n, err := conn.Read(answer[:])
	if err != nil {
		return 0, err
	}
	return readNTP(ask[:], answer[:n], sent, sent.Add(time.Since(sent)))
}

func putNTP(b []byte, t time.Time) {
	binary.BigEndian.PutUint32(b, uint32(t.Unix()+ntpEpoch))
	binary.BigEndian.PutUint32(b[4:], uint32(uint64(t.Nanosecond())<<32/1e9))
}

// parseNTP reads a timestamp of this era or, below 2^31, of the next (RFC 4330 §3).
func parseNTP(b []byte) time.Time {
	sec, frac := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if sec < 1<<31 {
		sec += 1 << 32
	}
	return time.Unix(sec-ntpEpoch, frac*1e9>>32)
}

// readNTP computes the offset of RFC 4330 §5.
func readNTP(ask, answer []byte, sent, received time.Time) (time.Duration, error) {
	switch {
	case len(answer) < 48:
		return 0, errors.New("the answer is too short")
	case answer[0]&7 != 4:
		return 0, errors.New("the answer is no server's")
	case answer[0]>>6 == 3 || answer[1] == 0 || answer[1] > 15:
		return 0, errors.New("the server has no time")
	case string(answer[24:32]) != string(ask[40:48]):
		return 0, errors.New("the answer is to another question")
	}
	there, back := parseNTP(answer[32:]), parseNTP(answer[40:])
	return (there.Sub(sent) + back.Sub(received)) / 2, nil
}

// HTTPDate is a server whose Date field is read (RFC 9110 §6.6.1), good to a
// second. Client's certificates authenticate it over https.
type HTTPDate struct {
	URL    string
	Client *http.Client
}

// Name implements TimeSource.
func (s HTTPDate) Name() string { return s.URL }

// Offset implements TimeSource.
func (s HTTPDate) Offset(ctx context.Context) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.URL, nil)
	if err != nil {
		return 0, err
	}
	sent := time.Now()
	resp, err := s.Client.Do(req)
	if err != nil {
		return 0, err
	}
	took := time.Since(sent)
	if err := resp.Body.Close(); err != nil {
		return 0, err
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("its Date cannot be read: %w", err)
	}
	// Date is cut to a whole second: its middle is the best guess.
	return at.Add(time.Second / 2).Sub(sent.Add(took / 2)), nil
}

package render

import (
	"strconv"

	"github.com/zhenglian/zhenglian/verify"
)

type recordingView struct {
	Title, Verdict, Class string
	Rows                  []row
	Moments               []momentView
}

// momentView is a step of a session: what, when by the recorder's clock, and what
// shows it.
type momentView struct{ Time, What, Where, Proof string }

func (r *Renderer) recording(n int, rec *verify.Recording) recordingView {
	v := recordingView{Title: r.with("recording.title", "n", n), Verdict: r.verdict(rec.Verdict), Class: string(rec.Verdict)}
	add := func(label, value string) {
		if value != "" {
			v.Rows = append(v.Rows, row{r.word(label), value})
		}
	}
	add("label.recording-purpose", plain(rec.Purpose))
	add("label.recording-state", r.with("recording-state."+rec.State, "why", rec.Reason, "events", rec.Events, "batches", rec.Batches))
	if rec.From != "" {
		add("label.recording-time", r.with("recording.time", "from_time", rec.From, "to_time", rec.To))
		add("label.recording-network", r.with("recording.network", "exchanges", rec.Exchanges, "failed", rec.Failed, "records", rec.Records))
	}
	if rec.Frames > 0 {
		add("label.recording-video", r.with("recording.video", "frames", rec.Frames, "millis", rec.VideoMillis))
	}
	add("label.recording-session", rec.Session.String())
	for i := range rec.Timeline {
		v.Moments = append(v.Moments, r.moment(&rec.Timeline[i]))
	}
	return v
}

func (r *Renderer) moment(m *verify.Moment) momentView {
	out := momentView{Time: moment(m.At), What: r.with("moment."+m.Kind, "name", m.Name, "why", m.Why), Where: plain(m.URL)}
	if m.Status != 0 {
		out.Where = join(" · ", out.Where, r.with("moment.status", "status", m.Status))
	}
	out.Proof = r.with("moment.not-chained", "event", m.Seq)
	if m.NotAfter != "" {
		out.Proof = r.with("moment.chained", "after_time", m.NotAfter, "n", strconv.Itoa(m.Batch), "event", m.Seq)
	}
	if !m.Screenshot.IsZero() {
		out.Proof = join(r.word("punct.comma"), out.Proof, r.with("moment.screenshot", "sha256", m.Screenshot, "id", m.Record))
	}
	if !m.SHA256.IsZero() {
		out.Proof = join(r.word("punct.comma"), out.Proof, r.with("moment.file", "sha256", m.SHA256))
	}
	return out
}

package identity

import (
	"context"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Roll counts the members' keys that this institution enrolled. It holds member
// ids and no personal data: what the institution's operators see.
type Roll struct {
	Enrolled, Revoked int       // keys
	Changes           []Changed // newest first
}

// Changed is the enrolment or the revocation of a member's key.
type Changed struct {
	At      time.Time
	Member  string
	Kind    evidence.MemberKind
	Level   int
	Demo    bool
	Revoked bool
}

// Roll returns the counts and at most limit of the latest changes.
func (r *Register) Roll(ctx context.Context, limit int) (*Roll, error) {
	out := new(Roll)
	err := r.db.QueryRow(ctx, `SELECT COUNT(CASE WHEN state = 'enrolled' THEN 1 END), COUNT(CASE WHEN state IN ('revoking', 'revoked') THEN 1 END) FROM member_keys`).
		Scan(&out.Enrolled, &out.Revoked)
	if err != nil {
		return nil, fmt.Errorf("counting members' keys: %w", err)
	}
	rows, err := r.db.Query(ctx, `SELECT at, member, kind, level, demo, gone FROM (
			SELECT k.created AS at, k.member AS member, m.kind AS kind, k.level AS level, m.demo AS demo, FALSE AS gone
				FROM member_keys k JOIN members m ON m.id = k.member WHERE k.position IS NOT NULL
			UNION ALL
			SELECT k.revoked, k.member, m.kind, k.level, m.demo, TRUE
				FROM member_keys k JOIN members m ON m.id = k.member WHERE k.state IN ('revoking', 'revoked') AND k.revoked IS NOT NULL
		) AS changes ORDER BY at DESC, member LIMIT $1`, limit)
	out.Changes, err = store.Collect[Changed](rows, err)(func(rows *store.Rows) (c Changed, err error) {
		var at, kind int64
		err = rows.Scan(&at, &c.Member, &kind, &c.Level, &c.Demo, &c.Revoked)
		c.At, c.Kind = time.UnixMilli(at), evidence.MemberKind(kind)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing members' keys: %w", err)
	}
	return out, nil
}

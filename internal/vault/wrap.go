package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
)

// RecipientID returns the SHA-256 of the recipient's text form ("age1…"), by
// which heads and grants name recipients. Recipients without such a text
// (passphrases, SSH keys) are refused: the vault could not tell whether it
// holds an object for them.
func RecipientID(r age.Recipient) (evidence.Digest, error) {
	s, ok := r.(fmt.Stringer)
	if !ok || !strings.HasPrefix(s.String(), "age1") {
		return evidence.Digest{}, fmt.Errorf("recipient %T has no age1… text; use an age key pair", r)
	}
	return evidence.SumSHA256([]byte(s.String())), nil
}

// recipientOf returns the RecipientID an identity answers to, when it tells.
func recipientOf(id age.Identity) (evidence.Digest, bool) {
	var r age.Recipient
	switch id := id.(type) {
	case *age.X25519Identity:
		r = id.Recipient()
	case *age.HybridIdentity:
		r = id.Recipient()
	default:
		return evidence.Digest{}, false
	}
	d, err := RecipientID(r)
	return d, err == nil
}

// recipientSet gives each recipient's ID once, ascending, with the recipients
// in the same order.
func recipientSet(rs []age.Recipient) ([]evidence.Digest, []age.Recipient, error) {
	if len(rs) == 0 {
		return nil, nil, errors.New("no recipient given; name at least the owner's key")
	}
	if len(rs) > MaxRecipients {
		return nil, nil, fmt.Errorf("%d recipients given, at most %d are allowed; grant the others afterwards", len(rs), MaxRecipients)
	}
	by := make(map[evidence.Digest]age.Recipient, len(rs))
	ids := make([]evidence.Digest, 0, len(rs))
	for _, r := range rs {
		id, err := RecipientID(r)
		if err != nil {
			return nil, nil, err
		}
		if _, ok := by[id]; !ok {
			ids = append(ids, id)
		}
		by[id] = r
	}
	slices.SortFunc(ids, func(a, b evidence.Digest) int { return bytes.Compare(a[:], b[:]) })
	out := make([]age.Recipient, len(ids))
	for i, id := range ids {
		out[i] = by[id]
	}
	return ids, out, nil
}

// wrapKey makes one age file for one recipient. One each, and not one for all,
// because age cannot add a recipient to a file without knowing the others.
func wrapKey(root key, id evidence.Digest, r age.Recipient) (wrappedKey, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, r)
	if err == nil {
		_, err = w.Write(root[:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return wrappedKey{}, fmt.Errorf("wrapping key for recipient %s: %w", id, err)
	}
	if b.Len() > maxWrap {
		return wrappedKey{}, fmt.Errorf("wrapping key for recipient %s: %d bytes, at most %d are allowed", id, b.Len(), maxWrap)
	}
	return wrappedKey{id, b.Bytes()}, nil
}

// errNoMatch: the age file is for other keys.
var errNoMatch = errors.New("wrapped key is for another recipient")

func unwrapKey(w wrappedKey, ids []age.Identity) (root key, err error) {
	r, err := age.Decrypt(bytes.NewReader(w.file), ids...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		// age cannot tell a stanza for someone else from a damaged one; the
		// recipient's name beside it can.
		for _, id := range ids {
			if d, ok := recipientOf(id); ok && d == w.recipient {
				return root, errors.New("age does not open it with the key it names")
			}
		}
		return root, errNoMatch
	} else if err != nil {
		return root, err
	}
	b, err := io.ReadAll(io.LimitReader(r, keySize+1))
	if err != nil {
		return root, err
	}
	if len(b) != keySize {
		return root, formatError("root key of %d bytes, want %d", len(b), keySize)
	}
	return key(b), nil
}

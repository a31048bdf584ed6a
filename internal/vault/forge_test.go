package vault

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"filippo.io/age"
)

// Anyone can seal other content to a public key. Here a store does, with a
// head that is right in all but the content: made-up root key, valid MAC,
// leaf tables and roots that agree, and the digests of the object it replaces.
func TestForgedObject(t *testing.T) {
	owner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := new(Memory)
	v := New(s)
	content := bytes.Repeat([]byte("the true content "), 1000)
	want, err := v.Put(t.Context(), bytes.NewReader(content), []age.Recipient{owner.Recipient()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Remove(t.Context(), want.SHA256); err != nil {
		t.Fatal(err)
	}

	root := vectorRoot()
	forged := bytes.ToUpper(content)
	var data bytes.Buffer
	o, err := seal(t.Context(), bytes.NewReader(forged), root, &data, nil, func(Object) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	id, err := RecipientID(owner.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w, err := wrapKey(root, id, owner.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	place := func(o Object) {
		h := head{id: dataID{1}, object: o, keys: []wrappedKey{w}}
		h.mac = macOf(t, root, h.unsigned())
		for n, b := range map[string][]byte{headName(o.SHA256): h.marshal(), dataName(h.id): data.Bytes()} {
			if err := s.Delete(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), n, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(what string, err error, part string) {
		t.Helper()
		if d, ok := errors.AsType[*DamagedError](err); !ok || d.Part != part {
			t.Errorf("%s: %v, want damage of the %s", what, err, part)
		}
	}

	withDigests := o
	withDigests.SHA256, withDigests.SM3 = want.SHA256, want.SM3
	place(withDigests)
	if got, err := v.Verify(t.Context(), want.SHA256); err != nil || got == want {
		t.Errorf("Verify = %+v, %v; it must show the forger's roots", got, err)
	}
	_, err = v.Open(t.Context(), want.SHA256, owner)
	check("Open", err, PartContent)
	_, err = v.OpenObject(t.Context(), want, owner)
	check("OpenObject", err, PartHead)
	d, err := v.Disclose(t.Context(), want.SHA256, 0, 10, owner)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Open(want, bytes.NewReader(data.Bytes()))
	check("Disclosure.Open", err, PartDisclosure)
	d.PlaintextRoot = want.PlaintextRoot
	_, err = d.Open(want, bytes.NewReader(data.Bytes()))
	check("Disclosure.Open with the true root", err, PartDisclosure)

	// With the true roots as well, the leaf tables cannot follow.
	place(want)
	_, err = v.OpenObject(t.Context(), want, owner)
	check("OpenObject with the true roots", err, PartLeaves)
}

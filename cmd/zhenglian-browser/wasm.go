//go:build js && wasm

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall/js"

	"crypto/rand"

	"filippo.io/age"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/vault"
)

// function is one of the module's: it returns a value for js.ValueOf, or a
// js.Value.
type function func(args arguments) (any, error)

func main() {
	api := js.Global().Get("Object").New()
	for name, f := range map[string]function{
		"newIdentity": jsNewIdentity, "newRecovery": jsNewRecovery, "readRecovery": jsReadRecovery,
		"splitRecovery": jsSplitRecovery, "openShare": jsOpenShare, "joinRecovery": jsJoinRecovery,
		"seal": jsSeal, "draft": jsDraft, "deposit": jsDeposit, "certificateRequest": jsCertificateRequest, "kid": jsKID,
		"openManifest": jsOpenManifest, "openObject": jsOpenObject, "rewrap": jsRewrap, "package": jsPackage, "passkeysOf": jsPasskeysOf,
	} {
		api.Set(name, promising(f))
	}
	js.Global().Set("zhenglianBrowser", api)
	if ready := js.Global().Get("zhenglianBrowserReady"); ready.Type() == js.TypeFunction {
		ready.Invoke()
	}
	select {} // the page calls the functions as long as it is open
}

// promising makes f a function that returns a promise at once: f waits for the
// event loop, which the call would hold up.
func promising(f function) js.Func {
	return js.FuncOf(func(_ js.Value, args []js.Value) any {
		var executor js.Func
		executor = js.FuncOf(func(_ js.Value, settle []js.Value) any {
			resolve, reject := settle[0], settle[1]
			go func() {
				defer executor.Release()
				value, err := f(args)
				if err != nil {
					reject.Invoke(jsError(err))
					return
				}
				resolve.Invoke(value)
			}()
			return nil
		})
		return js.Global().Get("Promise").New(executor)
	})
}

func jsError(err error) js.Value {
	e := js.Global().Get("Error").New(err.Error())
	code, field := errorCode(err)
	if thrown, ok := errors.AsType[*thrownError](err); ok {
		e.Set("cause", thrown.reason)
		if thrown.reason.Type() == js.TypeObject && thrown.reason.Get("name").Type() == js.TypeString && thrown.reason.Get("name").String() == "AbortError" {
			code = "aborted"
		}
	}
	e.Set("code", code)
	if field != nil {
		e.Set("field", field.Field)
		e.Set("reason", field.Reason)
		e.Set("hint", field.Hint)
	}
	return e
}

// arguments of a call.
type arguments []js.Value

func (a arguments) at(i int) js.Value {
	if i < len(a) {
		return a[i]
	}
	return js.Undefined()
}

func (a arguments) text(i int) (string, error) {
	if v := a.at(i); v.Type() == js.TypeString {
		return v.String(), nil
	}
	return "", inputError("argument %d is a text", i+1)
}

func (a arguments) bytes(i int) ([]byte, error) { return bytesOf(a.at(i)) }

func (a arguments) texts(i int) ([]string, error) { return textsOf(a.at(i)) }

// options returns argument i, which must be an object.
func (a arguments) options(i int) (js.Value, error) {
	if v := a.at(i); v.Type() == js.TypeObject {
		return v, nil
	}
	return js.Undefined(), inputError("argument %d is an object", i+1)
}

func bytesOf(v js.Value) ([]byte, error) {
	if v.Type() != js.TypeObject || !v.InstanceOf(js.Global().Get("Uint8Array")) {
		return nil, inputError("a Uint8Array is wanted")
	}
	b := make([]byte, v.Length())
	js.CopyBytesToGo(b, v)
	return b, nil
}

func jsBytes(b []byte) js.Value {
	v := js.Global().Get("Uint8Array").New(len(b))
	js.CopyBytesToJS(v, b)
	return v
}

func textsOf(v js.Value) ([]string, error) {
	if !js.Global().Get("Array").Call("isArray", v).Bool() {
		return nil, inputError("a list of texts is wanted")
	}
	out := make([]string, v.Length())
	for i := range out {
		if v.Index(i).Type() != js.TypeString {
			return nil, inputError("a list of texts is wanted")
		}
		out[i] = v.Index(i).String()
	}
	return out, nil
}

func digestsOf(v js.Value) ([]evidence.Digest, error) {
	texts, err := textsOf(v)
	if err != nil {
		return nil, err
	}
	out := make([]evidence.Digest, len(texts))
	for i, t := range texts {
		if out[i], err = evidence.ParseDigest(t); err != nil {
			return nil, inputError("digest %d: %v", i+1, err)
		}
	}
	return out, nil
}

// fields makes a JavaScript object of a Go value through its JSON.
func fields(v any) (js.Value, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return js.Undefined(), err
	}
	return js.Global().Get("JSON").Call("parse", string(b)), nil
}

// into fills v from a JavaScript object through its JSON; functions and byte
// arrays in it are left out by the names that v knows.
func into(o js.Value, v any) error {
	text := js.Global().Get("JSON").Call("stringify", o).String()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return inputError("reading the argument: %v", err)
	}
	return nil
}

// progressOf returns nil when there is no such function.
func progressOf[N int | int64](o js.Value) func(N) {
	f := o.Get("progress")
	if f.Type() != js.TypeFunction {
		return nil
	}
	return func(n N) { f.Invoke(float64(n)) }
}

func jsNewIdentity(arguments) (any, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return map[string]any{"identity": id.String(), "recipient": id.Recipient().String()}, nil
}

func jsNewRecovery(arguments) (any, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return map[string]any{"key": id.String(), "paper": paper(id.String()), "recipient": id.Recipient().String()}, nil
}

func keyValue(id *age.X25519Identity, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return map[string]any{"key": id.String(), "recipient": id.Recipient().String()}, nil
}

func jsReadRecovery(a arguments) (any, error) {
	text, err := a.text(0)
	if err != nil {
		return nil, err
	}
	return keyValue(readRecovery(text))
}

func jsSplitRecovery(a arguments) (any, error) {
	key, err := a.text(0)
	if err != nil {
		return nil, err
	}
	holders, err := a.texts(2)
	if err != nil {
		return nil, err
	}
	if a.at(1).Type() != js.TypeNumber {
		return nil, inputError("argument 2 is a number")
	}
	shares, err := splitRecovery(key, a.at(1).Int(), holders)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(shares))
	for i, s := range shares {
		out[i] = jsBytes(s)
	}
	return out, nil
}

func jsOpenShare(a arguments) (any, error) {
	sealed, err := a.bytes(0)
	if err != nil {
		return nil, err
	}
	identity, err := a.text(1)
	if err != nil {
		return nil, err
	}
	share, k, err := openShare(sealed, identity)
	if err != nil {
		return nil, err
	}
	return map[string]any{"share": jsBytes(share), "threshold": k}, nil
}

func jsJoinRecovery(a arguments) (any, error) {
	list := a.at(0)
	if !js.Global().Get("Array").Call("isArray", list).Bool() {
		return nil, inputError("argument 1 is a list of shares")
	}
	shares := make([][]byte, list.Length())
	for i := range shares {
		var err error
		if shares[i], err = bytesOf(list.Index(i)); err != nil {
			return nil, err
		}
	}
	return keyValue(joinRecovery(shares))
}

func jsSeal(a arguments) (any, error) {
	source, err := a.options(0)
	if err != nil {
		return nil, err
	}
	o, err := a.options(1)
	if err != nil {
		return nil, err
	}
	if source.Get("read").Type() != js.TypeFunction || source.Get("size").Type() != js.TypeNumber {
		return nil, inputError("argument 1 is {size, read(offset, length)}")
	}
	store, err := storeOf(o)
	if err != nil {
		return nil, err
	}
	to, err := textsOf(o.Get("recipients"))
	if err != nil {
		return nil, err
	}
	size := int64(source.Get("size").Float())
	kept, err := seal(context.Background(), store, &pageReader{source: source, size: size}, to, progressOf[int64](o))
	if err != nil {
		return nil, err
	}
	if kept.Size != size {
		return nil, fmt.Errorf("the file has %d bytes and gave %d: it changed while it was read", size, kept.Size)
	}
	return fields(kept)
}

func jsDraft(a arguments) (any, error) {
	text, err := a.text(0)
	if err != nil {
		return nil, err
	}
	d, err := draft(text, rand.Reader)
	if err != nil {
		return nil, err
	}
	return fields(d)
}

func signerOf(v js.Value) (*callbackSigner, error) {
	if v.Type() != js.TypeObject || v.Get("sign").Type() != js.TypeFunction {
		return nil, inputError("key is {public, sign(bytes)}")
	}
	spki, err := bytesOf(v.Get("public"))
	if err != nil {
		return nil, err
	}
	return newCallbackSigner(spki, func(message []byte) ([]byte, error) {
		sig, err := await(v.Call("sign", jsBytes(message)))
		if err != nil {
			return nil, fmt.Errorf("asking the browser for a signature: %w", err)
		}
		return bytesOf(sig)
	})
}

func jsDeposit(a arguments) (any, error) {
	o, err := a.options(0)
	if err != nil {
		return nil, err
	}
	signer, err := signerOf(o.Get("key"))
	if err != nil {
		return nil, err
	}
	store, err := storeOf(o)
	if err != nil {
		return nil, err
	}
	var asked order
	plain := js.Global().Get("Object").Call("assign", js.Global().Get("Object").New(), o)
	plain.Delete("key")
	plain.Delete("store")
	if err := into(plain, &asked); err != nil {
		return nil, err
	}
	d, err := deposit(context.Background(), store, signer, &asked)
	if err != nil {
		return nil, err
	}
	trail, _ := d.Statement.Trail()
	return map[string]any{"statement": jsBytes(d.Statement.Bytes()), "digest": d.Statement.Digest().String(), "trail": trail.String(),
		"manifest": string(d.Manifest), "manifestDigest": evidence.SumSHA256(d.Manifest).String(), "manifestSM3": evidence.SumSM3(d.Manifest).String()}, nil
}

func jsCertificateRequest(a arguments) (any, error) {
	o, err := a.options(0)
	if err != nil {
		return nil, err
	}
	signer, err := signerOf(o.Get("key"))
	if err != nil {
		return nil, err
	}
	name, err := arguments{o.Get("name")}.text(0)
	if err != nil {
		return nil, err
	}
	der, err := certificateRequest(signer, name)
	if err != nil {
		return nil, err
	}
	return map[string]any{"der": jsBytes(der), "pem": requestPEM(der)}, nil
}

func jsKID(a arguments) (any, error) {
	spki, err := a.bytes(0)
	if err != nil {
		return nil, err
	}
	key, err := evidence.ParsePublicKey(spki)
	if err != nil {
		return nil, inputError("reading the public key: %v", err)
	}
	return key.KID().String(), nil
}

func openerOf(o js.Value) (*opener, error) {
	store, err := storeOf(o)
	if err != nil {
		return nil, err
	}
	ids, err := textsOf(o.Get("identities"))
	if err != nil {
		return nil, err
	}
	return &opener{context.Background(), vault.New(store), ids}, nil
}

func jsOpenManifest(a arguments) (any, error) {
	text, err := a.text(0)
	if err != nil {
		return nil, err
	}
	digest, err := evidence.ParseDigest(text)
	if err != nil {
		return nil, inputError("%v", err)
	}
	o, err := a.options(1)
	if err != nil {
		return nil, err
	}
	p, err := openerOf(o)
	if err != nil {
		return nil, err
	}
	data, err := p.open(digest)
	if err != nil {
		return nil, err
	}
	if _, err := evidence.ParseManifest(data); err != nil {
		return nil, err
	}
	return string(data), nil
}

func jsOpenObject(a arguments) (any, error) {
	wanted, err := a.options(0)
	if err != nil {
		return nil, err
	}
	o, err := a.options(1)
	if err != nil {
		return nil, err
	}
	var object evidence.Object
	if err := into(wanted, &object); err != nil {
		return nil, err
	}
	p, err := openerOf(o)
	if err != nil {
		return nil, err
	}
	write := o.Get("write")
	if write.Type() != js.TypeFunction {
		return nil, inputError("write(bytes) is a function")
	}
	c, err := p.content(&object)
	if err != nil {
		return nil, err
	}
	var way passage
	n, err := io.CopyBuffer(writerFunc(func(b []byte) error {
		_, err := await(write.Invoke(jsBytes(b)))
		way.passed(len(b))
		return err
	}), struct{ io.Reader }{c}, make([]byte, window))
	if err != nil {
		return nil, err
	}
	return map[string]any{"size": float64(n)}, nil
}

func jsRewrap(a arguments) (any, error) {
	digests, err := digestsOf(a.at(0))
	if err != nil {
		return nil, err
	}
	o, err := a.options(1)
	if err != nil {
		return nil, err
	}
	store, err := storeOf(o)
	if err != nil {
		return nil, err
	}
	var asked struct{ Identity, Recipient string }
	if err := into(js.ValueOf(map[string]any{"identity": o.Get("identity"), "recipient": o.Get("recipient")}), &asked); err != nil {
		return nil, err
	}
	done, missing, err := rewrap(context.Background(), store, digests, asked.Identity, asked.Recipient, progressOf[int](o))
	if err != nil {
		return nil, err
	}
	return fields(map[string]any{"done": done, "missing": missing})
}

func jsPackage(a arguments) (any, error) {
	text, err := a.text(0)
	if err != nil {
		return nil, err
	}
	o, err := a.options(1)
	if err != nil {
		return nil, err
	}
	var parts evidence.PackageParts
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return nil, inputError("reading the parts: %v", err)
	}
	p, err := openerOf(o)
	if err != nil {
		return nil, err
	}
	if o.Get("write").Type() != js.TypeFunction {
		return nil, inputError("write(offset, bytes) is a function")
	}
	w := &pageFile{write: o.Get("write"), progress: progressOf[int64](o)}
	packed, err := parts.Write(w, p)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return nil, err
	}
	return fields(map[string]any{"steps": packed.Steps, "withheld": packed.Withheld, "no_object": packed.NoObject, "size": w.size})
}

func jsPasskeysOf(a arguments) (any, error) {
	texts, err := a.texts(0)
	if err != nil {
		return nil, err
	}
	kids, err := passkeysOf(texts)
	if err != nil {
		return nil, err
	}
	return fields(kids)
}

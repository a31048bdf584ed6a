#!/usr/bin/env python3
"""Writes the vectors of the JSON documents, the container and the package.

A second implementation of spec/manifest.md, spec/alliance.md and
spec/package.md, made from their text alone with Python's own library and the
module `cryptography` (45 or newer). Run it in this folder; the files it writes
do not change from run to run.
"""
import base64, binascii, copy, datetime, hashlib, hmac, json, os, struct
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature


def canon(v):
    """RFC 8785 for our documents."""
    if isinstance(v, dict):
        names = sorted(v, key=lambda s: s.encode("utf-16-be"))
        return "{" + ",".join(canon(n) + ":" + canon(v[n]) for n in names) + "}"
    if isinstance(v, list):
        return "[" + ",".join(canon(x) for x in v) + "]"
    return json.dumps(v, ensure_ascii=False)


def cbytes(v):
    return canon(v).encode()


def sha(b):
    return hashlib.sha256(b).hexdigest()


def sm3(b):
    return hashlib.new("sm3", b).hexdigest()


def b64(b):
    return base64.b64encode(b).decode()


def write(path, v):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(v, f, ensure_ascii=False, indent=1)
        f.write("\n")


def root_certificate(name, what="timestamp root ", authority=True):
    """A certificate of an authority's root; Ed25519, so that it is the same every time."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256((what + name).encode()).digest())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, what.title() + name)])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    cert = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
            .not_valid_before(day).not_valid_after(day.replace(year=2036)).add_extension(x509.BasicConstraints(authority, 0 if authority else None), True).sign(key, None))
    return cert.public_bytes(serialization.Encoding.PEM).decode()


# ---------------------------------------------------------------- JSON

def jcs():
    valid = [
        ("empty object", "{}", "{}"),
        ("blanks", " { \"a\" :\t[ 1 ,\r\n 2 ] } \n", '{"a":[1,2]}'),
        ("literals", "[true,false,null]", "[true,false,null]"),
        ("integers", "[0,-1,9007199254740991,-9007199254740991]", "[0,-1,9007199254740991,-9007199254740991]"),
        ("names sorted by bytes where no surrogate is in the way", '{"b":1,"a":2,"":3,"aa":4,"A":5}', '{"":3,"A":5,"a":2,"aa":4,"b":1}'),
        ("RFC 8785 section 3.2.3", '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}',
         '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}'),
        ("RFC 8785 section 3.2.2.2", '["\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"]', '["€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"]'),
        ("short escapes", '["\\b\\t\\n\\f\\r\\u001f\\u007f"]', '["\\b\\t\\n\\f\\r\\u001f\u007f"]'),
        ("no escape for line separators or markup", '["\\u2028\\u003c\\u003e\\u0026"]', '["\u2028<>&"]'),
        ("no Unicode normalisation", '["e\\u0301","\\u00e9"]', '["e\u0301","é"]'),
        ("Chinese", '{"步骤":"下载"}', '{"步骤":"下载"}'),
        ("text alone", '"证"', '"证"'),
        ("NUL inside text", '["\\u0000"]', '["\\u0000"]'),
        ("64 levels", "[" * 64 + "]" * 64, "[" * 64 + "]" * 64),
    ]
    invalid = [
        ("nothing", "", "syntax"), ("blank", " ", "syntax"), ("two values", "{}{}", "syntax"), ("comma at the end of a list", "[1,]", "syntax"),
        ("comma at the end of an object", '{"a":1,}', "syntax"), ("single quotes", "{'a':1}", "syntax"), ("name without quotes", "{a:1}", "syntax"),
        ("no colon", '{"a" 1}', "syntax"), ("open text", '"a', "syntax"), ("open list", "[1", "syntax"), ("open object", '{"a":1', "syntax"),
        ("byte order mark", "\ufeff{}", "syntax"), ("comment", "/**/{}", "syntax"), ("line feed in text", '["\n"]', "syntax"),
        ("unknown escape", '["\\x41"]', "syntax"), ("short unicode escape", '["\\u12"]', "syntax"), ("leading zero", "[01]", "syntax"),
        ("plus sign", "[+1]", "syntax"), ("minus alone", "[-]", "syntax"), ("NaN", "[NaN]", "syntax"), ("capital literal", "[True]", "syntax"),
        ("fraction", "[1.0]", "not-an-integer"), ("exponent", "[1e3]", "not-an-integer"), ("minus zero", "[-0]", "not-an-integer"),
        ("2^53", "[9007199254740992]", "number-range"), ("-2^53", "[-9007199254740992]", "number-range"), ("thirty digits", "[" + "9" * 30 + "]", "number-range"),
        ("same name twice", '{"a":1,"a":2}', "duplicate-name"), ("same name in two spellings", '{"a":1,"\\u0061":2}', "duplicate-name"),
        ("same name deep inside", '{"a":[{"b":1,"c":2,"b":3}]}', "duplicate-name"),
        ("high surrogate alone", '["\\ud83d"]', "lone-surrogate"), ("low surrogate alone", '["\\ude00"]', "lone-surrogate"),
        ("high surrogate twice", '["\\ud83d\\ud83d"]', "lone-surrogate"), ("surrogate in a name", '{"\\ud800":1}', "lone-surrogate"),
        ("65 levels", "[" * 65 + "]" * 65, "depth"),
    ]
    out = [dict(name=n, input=i, reason=r) for n, i, r in invalid]
    for n, raw in [("stray byte", b'["\xff"]'), ("overlong slash", b'["\xc0\xaf"]'), ("surrogate in UTF-8", b'["\xed\xa0\x80"]'), ("GBK", '["证据"]'.encode("gbk")), ("cut character", b'["\xe8\xaf"]')]:
        out.append(dict(name=n, input_hex=raw.hex(), reason="invalid-utf8"))
    write("jcs/valid.json", [dict(name=n, input=i, output=o) for n, i, o in valid])
    write("jcs/invalid.json", out)
    # Texts that are valid JSON but not canonical, for readers of documents.
    write("jcs/not-canonical.json", [dict(name=n, input=i) for n, i in [
        ("blank", '{"a": 1}'), ("line feed at the end", '{"a":1}\n'), ("unsorted", '{"b":1,"a":2}'), ("sorted by bytes and not by UTF-16", '{"\ufb33":1,"😀":2}'),
        ("needless escape", '{"a":"\\u0041"}'), ("capital hexadecimal", '{"a":"\\u001F"}'), ("long escape for line feed", '{"a":"\\u000a"}'), ("escaped slash", '{"a":"\\/"}')]])


# ---------------------------------------------------------------- manifest

SALT = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
FILE = "证据内容\n".encode()


def manifest():
    minimal = dict(v=1, salt=SALT, phase="before", step="identity", created="2026-03-01T01:30:00Z",
                   person=dict(member="m-1", assurance=0, demo=True), place=dict(claimed={}, witnessed={}), dimensions={}, objects=[])
    full = dict(v=1, salt=SALT, phase="during", step="下载网页", created="2026-03-01T09:30:00+08:00",
                person=dict(member="hangzhou-user-0001", commitment=sha(b"x"), assurance=2, demo=False),
                place=dict(claimed={"address": "杭州市西湖区", "ip": "203.0.113.7"}, witnessed={"egress": "203.0.113.7"}),
                dimensions=dict(before={"clean": "yes"}, during={"url": "https://shop.example/item?id=1"}, after={"sealed_by": "recorder-1"}),
                note="第一行\n第二行",
                objects=[dict(name="网页 截图.png", size=len(FILE), media="image/png", sha256=sha(FILE), sm3=sm3(FILE)),
                         dict(name="page.html", size=2097153, media="text/html", sha256=sha(b"y"), sm3=sm3(b"y"),
                              vault=dict(chunks=3, plain_root=sha(b"p"), cipher_root=sha(b"c")))])
    act = dict(copy.deepcopy(full), act=dict(kind="sign"))
    confirmed = confirm(act, edkey("passkey"))
    write("manifest/valid.json", [dict(name=n, manifest=canon(m), sha256=sha(cbytes(m)), sm3=sm3(cbytes(m))) for n, m in [("minimal", minimal), ("full", full), ("an act", act), ("an act confirmed with a passkey", confirmed)]])

    bad = []

    def case(name, reason, field, change, base=full):
        m = copy.deepcopy(base)
        change(m)
        bad.append(dict(name=name, manifest=canon(m), reason=reason, field=field))

    def put(*path):
        *head, last, value = path

        def change(m):
            for p in head:
                m = m[p]
            m[last] = value
        return change

    def drop(*path):
        *head, last = path

        def change(m):
            for p in head:
                m = m[p]
            del m[last]
        return change

    case("version 2", "version", "$.v", put("v", 2))
    case("version as text", "wrong-type", "$.v", put("v", "1"))
    case("no salt", "missing-field", "$.salt", drop("salt"))
    case("salt of 31 bytes", "wrong-value", "$.salt", put("salt", SALT[:42]))
    case("salt with padding", "wrong-value", "$.salt", put("salt", SALT + "="))
    case("salt with stray last bits", "wrong-value", "$.salt", put("salt", SALT[:42] + "9"))
    case("salt in base64 and not base64url", "wrong-value", "$.salt", put("salt", "+" + SALT[1:]))
    case("salt of zeros", "required", "$.salt", put("salt", "A" * 43))
    case("unknown phase", "phase", "$.phase", put("phase", "later"))
    case("empty step", "required", "$.step", put("step", ""))
    case("step of 81 characters", "too-long", "$.step", put("step", "步" * 81))
    case("step with line feed", "text", "$.step", put("step", "a\nb"))
    case("step with a bidirectional override", "text", "$.step", put("step", "a\u202eb"))
    case("step ends with a blank", "text", "$.step", put("step", "a "))
    for n, t in [("fraction of a second", "2026-03-01T09:30:00.5+08:00"), ("no offset", "2026-03-01T09:30:00"), ("small letters", "2026-03-01t09:30:00z"),
                 ("UTC as +00:00", "2026-03-01T09:30:00+00:00"), ("30 February", "2026-02-30T09:30:00Z"), ("leap second", "2026-06-30T23:59:60Z"), ("a blank for the T", "2026-03-01 09:30:00Z")]:
        case("created with " + n, "time", "$.created", put("created", t))
    case("created as number", "wrong-type", "$.created", put("created", 1772328600))
    case("no person", "missing-field", "$.person", drop("person"))
    case("no member", "required", "$.person.member", put("person", "member", ""))
    case("assurance 4", "range", "$.person.assurance", put("person", "assurance", 4))
    case("assurance -1", "range", "$.person.assurance", put("person", "assurance", -1))
    case("assured without commitment", "required", "$.person.commitment", drop("person", "commitment"))
    case("commitment in capitals", "wrong-value", "$.person.commitment", put("person", "commitment", sha(b"x").upper()))
    case("commitment of zeros", "not-canonical", "$.person.commitment", put("person", "commitment", "0" * 64))
    case("demo as number", "wrong-type", "$.person.demo", put("person", "demo", 0))
    case("real name in the manifest", "unknown-field", "$.person.name", put("person", "name", "张三"))
    case("place without witnessed", "missing-field", "$.place.witnessed", drop("place", "witnessed"))
    case("fact that is no text", "wrong-type", "$.place.claimed.ip", put("place", "claimed", "ip", 7))
    case("fact with a name in capitals", "fact-name", "$.place.claimed", put("place", "claimed", "IP", "x"))
    case("fact of 1025 bytes", "too-long", "$.dimensions.during.url", put("dimensions", "during", "url", "x" * 1025))
    case("65 facts", "too-many", "$.place.claimed", put("place", "claimed", {"f%d" % i: "" for i in range(65)}))
    case("fact with an escape character", "text", "$.place.claimed.ip", put("place", "claimed", "ip", "\x1b[2J"))
    case("empty group of facts", "not-canonical", "$.dimensions.after", put("dimensions", "after", {}))
    case("empty note", "not-canonical", "$.note", put("note", ""))
    case("null note", "wrong-type", "$.note", put("note", None))
    case("note of 2001 characters", "too-long", "$.note", put("note", "字" * 2001))
    case("no objects member", "missing-field", "$.objects", drop("objects"))
    case("objects null", "wrong-type", "$.objects", put("objects", None))
    case("unknown field", "unknown-field", "$.extra", put("extra", 1))
    case("known field in capitals", "unknown-field", "$.Note", put("Note", "x"))
    for n, f in [("with a folder", "a/b.png"), ("with a backslash", "a\\b.png"), ("of two dots", ".."), ("with a NUL", "a\x00.png"), ("that runs right to left", "\u202egnp.exe"), ("of 256 bytes", "a" * 256)]:
        case("file name " + n, "file-name", "$.objects[0].name", put("objects", 0, "name", f))
    case("file without name", "required", "$.objects[0].name", put("objects", 0, "name", ""))
    case("negative size", "range", "$.objects[0].size", put("objects", 0, "size", -1))
    for n, f in [("in capitals", "Image/PNG"), ("with parameter", "text/html; charset=utf-8"), ("of one word", "image"), ("empty", "")]:
        case("media type " + n, "media", "$.objects[0].media", put("objects", 0, "media", f))
    case("digest of 63 digits", "wrong-value", "$.objects[0].sha256", put("objects", 0, "sha256", "a" * 63))
    case("digest of zeros", "required", "$.objects[0].sm3", put("objects", 0, "sm3", "0" * 64))
    case("object without SM3", "missing-field", "$.objects[0].sm3", drop("objects", 0, "sm3"))
    case("a chunk of an empty object", "chunks", "$.objects[1].vault.chunks", lambda m: (m["objects"][1].update(size=0), m["objects"][1]["vault"].update(chunks=1)))
    case("too few chunks", "chunks", "$.objects[1].vault.chunks", put("objects", 1, "vault", "chunks", 2))
    for n, k in [("empty", ""), ("in capitals", "Sign"), ("with a blank", "to sign"), ("of 33 letters", "a" * 33), ("that begins with a hyphen", "-sign"), ("with a digit", "sign2")]:
        case("act " + n, "act-kind", "$.act.kind", put("act", "kind", k), base=act)
    case("act without a kind", "missing-field", "$.act.kind", drop("act", "kind"), base=act)
    case("empty act", "missing-field", "$.act.kind", put("act", {}), base=act)
    case("null act", "wrong-type", "$.act", put("act", None), base=act)
    case("null passkey", "wrong-type", "$.act.passkey", put("act", "passkey", None), base=act)
    case("passkey of zeros", "required", "$.act.passkey.kid", put("act", "passkey", "kid", "0" * 64), base=confirmed)
    case("passkey without client data", "missing-field", "$.act.passkey.client_data", drop("act", "passkey", "client_data"), base=confirmed)
    for n, k, v in [("signature with padding", "signature", confirmed["act"]["passkey"]["signature"] + "=="), ("signature in base64 and not base64url", "signature", "+" + confirmed["act"]["passkey"]["signature"][1:]), ("empty signature", "signature", ""),
                    ("signature with stray last bits", "signature", "AB"), ("signature of 129 bytes", "signature", url(bytes(129))), ("client data of 4097 bytes", "client_data", url(bytes(4097))),
                    ("authenticator data of 2049 bytes", "authenticator_data", url(bytes(2049))), ("line feed in the client data", "client_data", confirmed["act"]["passkey"]["client_data"] + "\n")]:
        case(n, "base64url", "$.act.passkey." + k, put("act", "passkey", k, v), base=confirmed)
    bad.append(dict(name="blank after a colon", manifest=canon(minimal).replace(":", ": ", 1), reason="not-canonical", field="$.created"))
    bad.append(dict(name="line feed at the end", manifest=canon(minimal) + "\n", reason="not-canonical", field="$"))
    bad.append(dict(name="size with a fraction", manifest=canon(full).replace('"size":13', '"size":13.0', 1), reason="not-an-integer", field="$.objects[0].size"))
    bad.append(dict(name="phase twice", manifest=canon(minimal).replace('"phase":"before"', '"phase":"before","phase":"after"'), reason="duplicate-name", field="$.phase"))
    write("manifest/invalid.json", bad)

    commits = []
    for fields in [["张三", "居民身份证", "330106199001011234"], ["Zhang San", "passport", "E12345678"], [], ["", ""], ["ab", "c"], ["a", "bc"]]:
        msg = b"zhenglian commitment v1\x00"
        for f in fields:
            msg += struct.pack(">Q", len(f.encode())) + f.encode()
        commits.append(dict(salt=SALT, fields=fields, commitment=hmac.new(bytes(range(32)), msg, hashlib.sha256).hexdigest()))
    write("manifest/commitments.json", commits)
    acts(act)


# ---------------------------------------------------------------- act

SITE, ORIGIN = "portal.example", "https://portal.example"
UP, UV, BE, BS, AT, ED = 1, 4, 8, 16, 64, 128


def url(b):
    return base64.urlsafe_b64encode(b).decode().rstrip("=")


def challenge(m):
    """The WebAuthn challenge of a manifest: without the confirmation itself."""
    bare = copy.deepcopy(m)
    bare["act"].pop("passkey", None)
    return hashlib.sha256(b"zhenglian act v1\0" + cbytes(bare)).digest()


def authenticator_data(site=SITE, flags=UP | UV, more=b""):
    return hashlib.sha256(site.encode()).digest() + bytes([flags]) + struct.pack(">I", 7) + more


def client_data(ch, origin=ORIGIN, kind="webauthn.get", **more):
    return json.dumps(dict(type=kind, challenge=url(ch), origin=origin, **(more or dict(crossOrigin=False))), separators=(",", ":")).encode()


def high(k, msg):
    r, s = decode_dss_signature(k.sign(msg, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return encode_dss_signature(r, max(s, ORDER - s))


def assertion(k, auth, client, sig=None):
    msg = auth + hashlib.sha256(client).digest()
    if sig is None:
        sig = k.sign(msg) if isinstance(k, ed25519.Ed25519PrivateKey) else k.sign(msg, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return dict(kid=sha(spki(k)), authenticator_data=url(auth), client_data=url(client), signature=url(sig))


def confirm(m, k):
    m = copy.deepcopy(m)
    m["act"]["passkey"] = assertion(k, authenticator_data(), client_data(challenge(m)))
    return m


def acts(act):
    ed, p256, thief = edkey("passkey"), eckey("passkey on a phone"), edkey("another passkey")
    out = []

    def case(name, reason, k, a, m=act, site=SITE):
        m = copy.deepcopy(m)
        m["act"]["passkey"] = a
        out.append(dict(name=name, manifest=canon(m), challenge=challenge(m).hex(), key=b64(spki(k)), relying_party=site, reason=reason))
    ch = challenge(act)
    for n, k in (("Ed25519", ed), ("P-256", p256)):
        case(n, "", k, assertion(k, authenticator_data(), client_data(ch)))
        case(n + ", on another port and a page below the site", "", k, assertion(k, authenticator_data(), client_data(ch, "https://ca.portal.example:8443")))
        case(n + ", a key that is backed up", "", k, assertion(k, authenticator_data(flags=UP | UV | BE | BS), client_data(ch)))
        case(n + ", extensions", "", k, assertion(k, authenticator_data(flags=UP | UV | ED, more=bytes.fromhex("a1617881f5")), client_data(ch)))
        case(n + ", members that nobody knows", "", k, assertion(k, authenticator_data(), client_data(ch, other_keys_can_be_added_here=dict(x=[1]))))
        case(n + ", on one's own machine", "", k, assertion(k, authenticator_data("localhost"), client_data(ch, "http://localhost:8443")), site="localhost")
        bad = lambda name, reason, **kw: case(n + ", " + name, reason, k, assertion(k, kw.pop("auth", authenticator_data()), kw.pop("client", client_data(ch)), **kw))
        changed = copy.deepcopy(act)
        changed["note"] = "another note"
        case(n + ", the confirmation of another manifest", "challenge", k, assertion(k, authenticator_data(), client_data(ch)), m=changed)
        changed = copy.deepcopy(act)
        changed["act"]["kind"] = "grant"
        case(n + ", the confirmation of another act", "challenge", k, assertion(k, authenticator_data(), client_data(ch)), m=changed)
        bad("another site", "relying-party", auth=authenticator_data("evil.example"))
        bad("nobody there", "user-present", auth=authenticator_data(flags=UV))
        bad("user not verified", "user-verified", auth=authenticator_data(flags=UP))
        bad("backed up and not eligible", "authenticator-data", auth=authenticator_data(flags=UP | UV | BS))
        bad("a registration's data", "authenticator-data", auth=authenticator_data(flags=UP | UV | AT, more=bytes(18)))
        bad("a byte after the authenticator data", "authenticator-data", auth=authenticator_data(more=b"\0"))
        bad("authenticator data of 36 bytes", "authenticator-data", auth=authenticator_data()[:36])
        bad("extensions announced and absent", "authenticator-data", auth=authenticator_data(flags=UP | UV | ED))
        bad("extensions that are a list", "authenticator-data", auth=authenticator_data(flags=UP | UV | ED, more=b"\x80"))
        bad("two extension maps", "authenticator-data", auth=authenticator_data(flags=UP | UV | ED, more=b"\xa0\xa0"))
        bad("extensions of indefinite length", "authenticator-data", auth=authenticator_data(flags=UP | UV | ED, more=b"\xbf\xff"))
        bad("a registration", "type", client=client_data(ch, kind="webauthn.create"))
        bad("a payment", "type", client=client_data(ch, kind="payment.get"))
        bad("in another site's frame", "cross-origin", client=client_data(ch, crossOrigin=True))
        bad("under another site's page", "cross-origin", client=client_data(ch, topOrigin="https://evil.example"))
        for o in ["https://evil.example", "https://evilportal.example", "http://portal.example", "https://portal.example/", "https://x@portal.example", "portal.example", ""]:
            bad("origin " + repr(o), "origin", client=client_data(ch, o))
        bad("a challenge with padding", "challenge", client=client_data(ch).replace(url(ch).encode(), url(ch).encode() + b"="))
        bad("the challenge in hexadecimal", "challenge", client=client_data(ch).replace(url(ch).encode(), ch.hex().encode()))
        bad("a member twice", "client-data", client=client_data(ch).replace(b'"origin"', b'"origin":"https://evil.example","origin"'))
        bad("a member missing", "client-data", client=b'{"type":"webauthn.get","challenge":"' + url(ch).encode() + b'"}')
        bad("a member of another type", "client-data", client=client_data(ch, crossOrigin="false"))
        bad("client data that is a list", "client-data", client=b"[]")
        bad("client data with more behind it", "client-data", client=client_data(ch) + b"{}")
        bad("client data that is no UTF-8", "client-data", client=b"\xff" + client_data(ch))
        good = assertion(k, authenticator_data(), client_data(ch))
        raw_sig = base64.urlsafe_b64decode(good["signature"] + "==")
        bad("a byte after the signature", "signature", sig=raw_sig + b"\0")
        bad("a bit of the signature", "signature", sig=raw_sig[:-1] + bytes([raw_sig[-1] ^ 1]))
        case(n + ", a blank in the client data", "signature", k, dict(good, client_data=url(client_data(ch) + b" ")))
        case(n + ", another counter", "signature", k, dict(good, authenticator_data=url(authenticator_data()[:-1] + b"\x08")))
        case(n + ", another key's name", "key", k, dict(good, kid=sha(spki(thief))))
        case(n + ", another passkey's signature", "signature", k, dict(assertion(thief, authenticator_data(), client_data(ch)), kid=good["kid"]))
    msg = authenticator_data() + hashlib.sha256(client_data(ch)).digest()
    case("P-256, s in the upper half", "", p256, assertion(p256, authenticator_data(), client_data(ch), sig=high(p256, msg)))
    case("P-256, r and s as 64 bytes", "signature", p256, assertion(p256, authenticator_data(), client_data(ch), sig=sign(p256, msg)))
    write("act/assertions.json", out)


# ---------------------------------------------------------------- alliance

def edkey(label):
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(label.encode()).digest())


def eckey(label):
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(label.encode()).digest(), "big") >> 1 | 1, ec.SECP256R1())


def raw(k):
    return k.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def spki(k):
    return k.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(k):
    return k.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def sign(k, msg):
    if isinstance(k, ed25519.Ed25519PrivateKey):
        return k.sign(msg)
    r, s = decode_dss_signature(k.sign(msg, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")


def prove(d, keys):
    bare = cbytes(dict(d, proofs={}))
    d["proofs"] = {n: b64(sign(k, b"zhenglian key possession v1\n" + n.encode() + b"\n" + bare)) for n, k in keys.items()}
    return d


def institution(i, name, kind):
    keys = dict(consensus=edkey(i + " consensus"), node=edkey(i + " node"))
    keys["receipt.1"] = edkey(i + " receipt")
    if kind == "notary":
        keys["receipt.2"] = eckey(i + " receipt 2")
    keys.update(cosign=edkey(i + " cosign"), statement=edkey(i + " statement"), attest=eckey(i + " attest"), tls=eckey(i + " tls"))
    d = dict(v=1, id=i, name=name, kind=kind, addresses=dict(api="https://%s.example:8443" % i, peer=i + ".example:7443", p2p="192.0.2.7:26656"),
             keys=dict(consensus=b64(raw(keys["consensus"])), node=b64(raw(keys["node"])), receipt=[b64(spki(keys[n])) for n in keys if n.startswith("receipt")],
                       **{n: b64(spki(keys[n])) for n in ("cosign", "statement", "attest", "tls")}))
    return prove(d, keys), keys


def found(name, slug, created, ds):
    a = dict(v=1, name=name, slug=slug, created=created, rules=1, chain_id="", institutions=sorted(ds, key=lambda d: d["id"]))
    a["chain_id"] = slug + "-" + sha(cbytes(a))[:8]
    return a


def alliance():
    members = [institution("court", "杭州互联网法院（演示）", "court"), institution("notary", "公证处（演示）", "notary"), institution("ca", "CA", "ca"), institution("forensic", "司法鉴定中心（演示）", "forensic")]
    court, ckeys = members[0]
    ds = [d for d, _ in members]
    write("alliance/descriptors-valid.json", [dict(name=d["id"], descriptor=canon(d), signing_input_hex=(b"zhenglian key possession v1\ncosign\n" + cbytes(dict(d, proofs={}))).hex()) for d in ds[:2]])
    bad = []

    def case(name, reason, field, change, again=True):
        d, k = copy.deepcopy(court), dict(ckeys)
        change(d, k)
        if again:
            d.pop("proofs", None)
            prove(d, k)
        bad.append(dict(name=name, descriptor=canon(d), reason=reason, field=field))

    def key(name, k):
        def change(d, keys):
            keys[name] = k
            if name in ("consensus", "node"):
                d["keys"][name] = b64(raw(k))
            elif name == "receipt.1":
                d["keys"]["receipt"][0] = b64(spki(k))
            else:
                d["keys"][name] = b64(spki(k))
        return change

    case("version 2", "version", "$.v", lambda d, k: d.update(v=2))
    for i in ["Court", "-court", "", "a" * 33, "court_1", "法院", "a/b"]:
        case("id %r" % i[:8], "slug", "$.id", lambda d, k, i=i: d.update(id=i))
    case("no name", "required", "$.name", lambda d, k: d.update(name=""))
    case("unknown kind", "kind", "$.kind", lambda d, k: d.update(kind="bank"))
    for a in ["court.example", "ftp://court.example", "https://", "https://u:p@court.example", "https://court.example?x=1", "https://court.example/", "https://court.example#a", "javascript:alert(1)"]:
        case("api " + a, "address", "$.addresses.api", lambda d, k, a=a: d["addresses"].update(api=a))
    for a in ["court.example", "court.example:0", "court.example:65536", ":26656", "court.example:026656", "court example:1"]:
        case("p2p " + a, "address", "$.addresses.p2p", lambda d, k, a=a: d["addresses"].update(p2p=a))
    case("one key for two purposes", "key-reuse", "$.keys.statement", key("statement", ckeys["cosign"]))
    case("consensus key also the node's", "key-reuse", "$.keys.node", key("node", ckeys["consensus"]))
    case("cosign key P-256", "key-algorithm", "$.keys.cosign", key("cosign", eckey("c")))
    case("no receipt key", "required", "$.keys.receipt", lambda d, k: (d["keys"].update(receipt=[]), k.pop("receipt.1")))
    case("consensus key of 31 bytes", "key", "$.keys.consensus", lambda d, k: d["keys"].update(consensus=b64(raw(k["consensus"])[:31])))
    case("small-order key", "key", "$.keys.consensus", lambda d, k: d["keys"].update(consensus=b64(b"\x01" + bytes(31))))
    case("key with a byte after it", "key", "$.keys.tls", lambda d, k: d["keys"].update(tls=b64(spki(k["tls"]) + b"\0")))
    case("key is no base64", "wrong-value", "$.keys.tls", lambda d, k: d["keys"].update(tls="***"))
    case("proof missing", "required", "$.proofs.tls", lambda d, k: d["proofs"].pop("tls"), again=False)
    case("proof of a key that is not there", "proof", "$.proofs", lambda d, k: d["proofs"].update({"receipt.2": d["proofs"]["tls"]}), again=False)
    case("proof by another key", "proof", "$.proofs.attest", lambda d, k: k.update(attest=eckey("other")))
    case("proof of another use", "proof", "$.proofs.cosign", lambda d, k: d["proofs"].update(cosign=d["proofs"]["statement"]), again=False)
    case("name changed after signing", "proof", "$.proofs.consensus", lambda d, k: d.update(name="别的法院"), again=False)
    case("proof of 63 bytes", "proof", "$.proofs.node", lambda d, k: d["proofs"].update(node=b64(base64.b64decode(d["proofs"]["node"])[:63])), again=False)
    case("unknown field", "unknown-field", "$.extra", lambda d, k: d.update(extra=1))
    case("no tls key", "missing-field", "$.keys.tls", lambda d, k: (d["keys"].pop("tls"), k.pop("tls")))
    bad.append(dict(name="blanks", descriptor=json.dumps(court, ensure_ascii=False), reason="not-canonical", field="$.v"))
    write("alliance/descriptors-invalid.json", bad)

    a = found("司法存证联盟（演示）", "demo", "2026-03-01T00:00:00+08:00", ds)
    aid = sha(cbytes(a))
    origin = "demo-" + aid[:16]
    write("alliance/valid.json", [dict(name="four institutions", alliance=canon(a), id=aid, origin=origin, chain_id=a["chain_id"], cosigners={d["id"]: origin + "/" + d["id"] for d in ds}, quorum=3)])
    write("alliance/quorum.json", [dict(n=n, quorum=n * 2 // 3 + 1) for n in range(1, 13)])
    bad = []

    def acase(name, reason, field, change, again=True):
        x = copy.deepcopy(a)
        change(x)
        if again:
            x["chain_id"] = ""
            x["chain_id"] = x["slug"] + "-" + sha(cbytes(x))[:8]
        bad.append(dict(name=name, alliance=canon(x), reason=reason, field=field))
    acase("version 2", "version", "$.v", lambda x: x.update(v=2))
    acase("rules 2", "version", "$.rules", lambda x: x.update(rules=2))
    acase("slug with a blank", "slug", "$.slug", lambda x: x.update(slug="a b"))
    acase("no name", "required", "$.name", lambda x: x.update(name=""))
    acase("created without offset", "time", "$.created", lambda x: x.update(created="2026-03-01T00:00:00"))
    acase("no institutions", "institutions", "$.institutions", lambda x: x.update(institutions=[]))
    acase("not sorted", "institutions", "$.institutions[1].id", lambda x: x["institutions"].reverse())
    acase("one institution twice", "institutions", "$.institutions[1].id", lambda x: x["institutions"].insert(0, x["institutions"][0]))
    acase("chain id of another founding", "chain-id", "$.chain_id", lambda x: x.update(chain_id="demo-00000000"), again=False)
    acase("address changed after signing", "proof", "$.institutions[2].proofs.consensus", lambda x: x["institutions"][2]["addresses"].update(api="https://evil.example"))

    def share(x):
        d, k = institution("court", "法院", "court")
        other = members[2][1]["tls"]
        k["tls"] = other
        d["keys"]["tls"] = b64(spki(other))
        d.pop("proofs")
        x["institutions"] = sorted([prove(d, k)] + [y for y in x["institutions"] if y["id"] != "court"], key=lambda y: y["id"])
    acase("two institutions with one key", "key-reuse", "$.institutions[0].keys.tls", share)
    write("alliance/invalid.json", bad)

    p = dict(v=1, alliance=aid, name=a["name"], origin=origin, quorum=3, institutions=[])
    for d, k in sorted(members, key=lambda m: m[0]["id"]):
        ks = [dict(use=n.split(".")[0], key=pem(k[n]), **{"from": 0}) for n in k if n.split(".")[0] == "receipt"]
        ks += [dict(use=n, key=pem(k[n]), **{"from": 0}) for n in ("cosign", "attest", "statement")]
        p["institutions"].append(dict(id=d["id"], name=d["name"], kind=d["kind"], keys=ks))
    rotated = copy.deepcopy(p)
    rotated["institutions"][0]["keys"][0]["to"] = 1000
    rotated["institutions"][0]["keys"].insert(1, dict(use="receipt", key=pem(edkey("new receipt")), **{"from": 1000}))
    stamping = copy.deepcopy(p)
    stamping["timestamp_authorities"] = [dict(id=i, name=n, certificate=root_certificate(i), demonstration=d) for i, n, d in (("ca", "示范电子认证中心", True), ("tsa-2", "Somebody else", False))]
    falling = copy.deepcopy(stamping)
    falling["timestamp_authorities"][0]["revoked"] = [dict(at="2031-05-17T09:30:00Z", reason="keyCompromise"), dict(certificate=sha(b"certificate"), at="2032-01-01T00:00:00Z")]
    falling["broken_algorithms"] = [dict(algorithm="RSA-3072", since="2035-01-01T00:00:00Z"), dict(algorithm="SHA-256", since="2041-01-01T00:00:00Z")]
    acting = copy.deepcopy(p)
    acting["acts"] = [dict(kind="deposit", assurance=1, passkey=False), dict(kind="recover", assurance=0, passkey=True), dict(kind="sign", assurance=3, passkey=True)]
    authorities = [root_certificate("ca", "certificate root "), root_certificate("ca, renewed", "certificate root ")]
    acting["certificate_authorities"] = [dict(id="ca", certificate=c) for c in sorted(authorities)] + [dict(id="ca-2", certificate=root_certificate("ca-2", "certificate root "))]
    write("alliance/policy-valid.json", [dict(name="acts and certificate authorities", policy=canon(acting), founded=False), dict(name="as founded", policy=canon(p), founded=True), dict(name="receipt key changed at size 1000", policy=canon(rotated), founded=False),
                                         dict(name="timestamp authorities", policy=canon(stamping), founded=False),
                                         dict(name="revoked authorities and broken algorithms", policy=canon(falling), founded=False),
                                         dict(name="laid out for people", policy=json.dumps(p, ensure_ascii=False, indent=2), founded=True)])
    bad = []

    def pcase(name, reason, field, change):
        x = copy.deepcopy(p)
        change(x)
        bad.append(dict(name=name, policy=canon(x), reason=reason, field=field))
    pcase("quorum of none", "range", "$.quorum", lambda x: x.update(quorum=0))
    pcase("quorum of five out of four", "range", "$.quorum", lambda x: x.update(quorum=5))
    pcase("a use that never reaches a package", "key-use", "$.institutions[0].keys[0].use", lambda x: x["institutions"][0]["keys"][0].update(use="tls"))
    pcase("key in base64 alone", "key", "$.institutions[0].keys[0].key", lambda x: x["institutions"][0]["keys"][0].update(key=b64(spki(edkey("k")))))
    pcase("two keys in one text", "key", "$.institutions[0].keys[0].key", lambda x: x["institutions"][0]["keys"][0].update(key=pem(edkey("k")) * 2))
    pcase("empty range", "range", "$.institutions[0].keys[0].to", lambda x: x["institutions"][0]["keys"][0].update({"from": 5, "to": 5}))
    pcase("key of another institution", "key-reuse", "$.institutions[1].keys[0].key", lambda x: x["institutions"][1]["keys"][0].update(key=x["institutions"][0]["keys"][0]["key"]))
    pcase("receipt key also for heads", "key-reuse", "$.institutions[0].keys[2].key", lambda x: x["institutions"][0]["keys"][2].update(key=x["institutions"][0]["keys"][0]["key"]))
    pcase("alliance of zeros", "required", "$.alliance", lambda x: x.update(alliance="0" * 64))
    pcase("not sorted", "institutions", "$.institutions[1].id", lambda x: x["institutions"].reverse())
    pcase("to of zero", "not-canonical", "$.institutions[0].keys[0].to", lambda x: x["institutions"][0]["keys"][0].update(to=0))

    def tcase(name, reason, field, change):
        x = copy.deepcopy(stamping)
        change(x["timestamp_authorities"])
        bad.append(dict(name=name, policy=canon(x), reason=reason, field=field))
    tcase("an empty list of timestamp authorities", "not-canonical", "$.timestamp_authorities", lambda t: t.clear())
    tcase("timestamp authorities not sorted", "timestamp-authorities", "$.timestamp_authorities[1].id", lambda t: t.reverse())
    tcase("a timestamp authority twice", "timestamp-authorities", "$.timestamp_authorities[1].id", lambda t: t[1].update(id="ca"))
    tcase("a key in place of a certificate", "certificate", "$.timestamp_authorities[0].certificate", lambda t: t[0].update(certificate=pem(edkey("k"))))
    tcase("two certificates in one text", "certificate", "$.timestamp_authorities[0].certificate", lambda t: t[0].update(certificate=t[0]["certificate"] * 2))

    def fcase(name, reason, field, change):
        x = copy.deepcopy(falling)
        change(x["timestamp_authorities"][0]["revoked"], x["broken_algorithms"])
        bad.append(dict(name=name, policy=canon(x), reason=reason, field=field))
    fcase("a revocation with another time zone", "time", "$.timestamp_authorities[0].revoked[0].at", lambda r, b: r[0].update(at="2031-05-17T09:30:00+08:00"))
    fcase("a revocation on the thirtieth of February", "time", "$.timestamp_authorities[0].revoked[0].at", lambda r, b: r[0].update(at="2031-02-30T09:30:00Z"))
    fcase("a revocation on hold", "revoked", "$.timestamp_authorities[0].revoked[0].reason", lambda r, b: r[0].update(reason="certificateHold"))
    fcase("an empty list of revocations", "not-canonical", "$.timestamp_authorities[0].revoked", lambda r, b: r.clear())
    fcase("an algorithm that tokens are not made with", "broken-algorithms", "$.broken_algorithms[0].algorithm", lambda r, b: b[0].update(algorithm="MD5"))
    fcase("an RSA key of 1024 bits", "broken-algorithms", "$.broken_algorithms[0].algorithm", lambda r, b: b[0].update(algorithm="RSA-1024"))
    fcase("broken algorithms not sorted", "broken-algorithms", "$.broken_algorithms[1].algorithm", lambda r, b: b.reverse())
    fcase("broken before 1990", "time", "$.broken_algorithms[0].since", lambda r, b: b[0].update(since="1989-12-31T23:59:59Z"))
    tcase("a timestamp authority without a word on demonstration", "missing-field", "$.timestamp_authorities[0].demonstration", lambda t: t[0].pop("demonstration"))

    def ccase(name, reason, field, change):
        x = copy.deepcopy(acting)
        change(x["acts"], x["certificate_authorities"])
        bad.append(dict(name=name, policy=canon(x), reason=reason, field=field))
    ccase("an empty list of acts", "not-canonical", "$.acts", lambda a, c: a.clear())
    ccase("acts not sorted", "acts", "$.acts[1].kind", lambda a, c: a.reverse())
    ccase("an act twice", "acts", "$.acts[1].kind", lambda a, c: a[1].update(kind="deposit"))
    ccase("an act in capitals", "act-kind", "$.acts[0].kind", lambda a, c: a[0].update(kind="Deposit"))
    ccase("an act of assurance 4", "range", "$.acts[0].assurance", lambda a, c: a[0].update(assurance=4))
    ccase("an act of which nothing is demanded", "acts", "$.acts[0]", lambda a, c: a[0].update(assurance=0))
    ccase("an act without a word on passkeys", "missing-field", "$.acts[0].passkey", lambda a, c: a[0].pop("passkey"))
    ccase("an empty list of certificate authorities", "not-canonical", "$.certificate_authorities", lambda a, c: c.clear())
    ccase("certificate authorities not sorted", "certificate-authorities", "$.certificate_authorities[1].id", lambda a, c: c.reverse())
    ccase("a certificate authority twice", "certificate-authorities", "$.certificate_authorities[1].id", lambda a, c: c.insert(0, c[0]))
    ccase("a certificate that is no authority's", "certificate", "$.certificate_authorities[0].certificate", lambda a, c: c[0].update(certificate=root_certificate("x", "certificate of ", False)))
    ccase("a key in place of an authority's certificate", "certificate", "$.certificate_authorities[0].certificate", lambda a, c: c[0].update(certificate=pem(edkey("k"))))
    ccase("a certificate authority with a name", "unknown-field", "$.certificate_authorities[0].name", lambda a, c: c[0].update(name="CA"))
    write("alliance/policy-invalid.json", bad)


# ---------------------------------------------------------------- container

def local(name, content, crc=None, size=None, method=0, flags=0x800, date=0x21, extra=b""):
    n = name if isinstance(name, bytes) else name.encode()
    crc = binascii.crc32(content) if crc is None else crc
    size = len(content) if size is None else size
    return struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, flags, method, 0, date, crc, size, size, len(n), len(extra)) + n + extra


def central(name, content, offset, crc=None, method=0, flags=0x800, date=0x21, extra=b"", comment=b"", mode=0o100644, made=0x032D):
    n = name if isinstance(name, bytes) else name.encode()
    crc = binascii.crc32(content) if crc is None else crc
    return struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, made, 20, flags, method, 0, date, crc, len(content), len(content), len(n), len(extra), len(comment), 0, 0, mode << 16, offset) + n + extra + comment


def end(count, size, start, comment=b""):
    return struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, size, start, len(comment)) + comment


def container(entries):
    body, directory = b"", b""
    for n, c in entries:
        directory += central(n, c, len(body))
        body += local(n, c) + c
    return body + directory + end(len(entries), len(directory), len(body))


def containers():
    valid = [("empty", []), ("one empty file", [("a", b"")]), ("two files", [("README.txt", b"hello\n"), ("文件夹/证据.txt", FILE)]),
             ("order kept", [("b", b"2"), ("a", b"1")]), ("content that looks like headers", [("a", local("b", b"x") + end(1, 1, 1))])]
    write("container/valid.json", [dict(name=n, entries=[dict(name=a, content_hex=c.hex()) for a, c in es], container_hex=container(es).hex()) for n, es in valid])
    e = [("a.txt", b"first"), ("b.txt", b"second")]
    good = container(e)
    body = local(*e[0]) + e[0][1] + local(*e[1]) + e[1][1]
    second = len(local(*e[0]) + e[0][1])
    cd = central(*e[0], 0) + central(*e[1], second)

    def build(body=body, cd=cd, count=2, start=None, size=None, comment=b"", gap=b"", before=b""):
        start = len(body) if start is None else start
        return before + body + gap + cd + end(count, len(cd) if size is None else size, start, comment)
    bad = [("nothing", b"", "not-a-container"), ("text", b"this is no ZIP file at all, only text\n", "not-a-container"), ("a gzip file", b"\x1f\x8b" + bytes(60), "not-a-container"),
           ("cut short by one byte", good[:-1], "truncated"), ("cut in the first content", good[:40], "truncated"), ("a byte after the end", good + b"\0", "truncated"),
           ("comment", build(comment=b"hi"), "truncated"), ("something before the first entry", build(before=b"#!/bin/sh\n", start=len(body) + 10), "local-header"),
           ("something before the first entry, with offsets to match", build(before=b"#!/bin/sh\n", start=len(body) + 10, cd=central(*e[0], 10) + central(*e[1], second + 10)), "offset"),
           ("something between the entries", build(body=body[:second] + b"gap" + body[second:], cd=central(*e[0], 0) + central(*e[1], second + 3)), "offset"),
           ("something between content and directory", build(gap=b"gap", start=len(body) + 3), "gap"),
           ("something between directory and end", good[:-22] + b"gap" + good[-22:], "gap"),
           ("directory size one too large", build(size=len(cd) + 1), "end-record"), ("directory offset beyond the file", build(start=10**6), "end-record"),
           ("count one too small", build(count=1), "gap"), ("count one too large", build(count=3), "directory"), ("count of 65535", build(count=65535), "too-many"),
           ("zip64 mark without zip64 record", build(start=0xFFFFFFFF), "end-record"),
           ("on another disk", good[:-18] + b"\1" + good[-17:], "end-record"),
           ("directory in another order", build(cd=central(*e[1], second) + central(*e[0], 0)), "offset"),
           ("two entries on one content", build(body=local(*e[0]) + e[0][1], cd=central(*e[0], 0) + central("b.txt", e[0][1], 0)), "offset"),
           ("an entry only in the directory", build(cd=cd + central("c.txt", b"x", len(body)), count=3), "offset"),
           ("an entry not in the directory", build(cd=central(*e[0], 0), count=1), "gap"),
           ("other name in the local header", build(body=body.replace(b"a.txt", b"x.txt", 1)), "local-header"),
           ("other size in the local header", build(body=local(*e[0], size=4) + e[0][1] + body[second:]), "local-header"),
           ("other checksum in the local header", build(body=local(*e[0], crc=1) + e[0][1] + body[second:]), "local-header"),
           ("data descriptor flag", build(body=local(*e[0], flags=0x808) + e[0][1] + body[second:], cd=central(*e[0], 0, flags=0x808) + central(*e[1], second)), "directory"),
           ("encrypted flag", build(cd=central(*e[0], 0, flags=0x801) + central(*e[1], second)), "directory"),
           ("no UTF-8 flag", build(cd=central(*e[0], 0, flags=0) + central(*e[1], second)), "directory"),
           ("deflate", build(cd=central(*e[0], 0, method=8) + central(*e[1], second)), "directory"),
           ("another date", build(cd=central(*e[0], 0, date=0x5A21) + central(*e[1], second)), "directory"),
           ("executable", build(cd=central(*e[0], 0, mode=0o100755) + central(*e[1], second)), "directory"),
           ("symbolic link", build(cd=central(*e[0], 0, mode=0o120777) + central(*e[1], second)), "directory"),
           ("made on another system", build(cd=central(*e[0], 0, made=45) + central(*e[1], second)), "directory"),
           ("comment on an entry", build(cd=central(*e[0], 0, comment=b"hi") + central(*e[1], second)), "directory"),
           ("extra field in the directory", build(cd=central(*e[0], 0, extra=b"\x55\x54\1\0\0") + central(*e[1], second)), "directory"),
           ("needless zip64 field", build(cd=central(*e[0], 0, extra=struct.pack("<HHQ", 1, 8, 5)) + central(*e[1], second)), "directory"),
           ("Unicode path field", build(cd=central(*e[0], 0, extra=struct.pack("<HHBI", 0x7075, 7, 1, 0) + b"zz") + central(*e[1], second)), "directory"),
           ("deflate and date, but only in the local header", build(body=local(*e[0], method=8) + e[0][1] + body[second:]), "local-header")]
    for n, names in [("absolute", ["/etc/passwd"]), ("parent folder", ["a/../../b"]), ("leading parent", ["../a"]), ("single dot", ["./a"]), ("backslash", ["a\\b"]), ("drive", ["C:x"]), ("folder entry", ["a/"]),
                     ("double slash", ["a//b"]), ("empty", [""]), ("NUL", ["a\0b"]), ("line feed", ["a\nb"]), ("bidirectional override", ["\u202etxt.exe"]), ("invalid UTF-8", [b"\xff"]),
                     ("GBK", ["证据".encode("gbk")]), ("trailing dot", ["a."]), ("trailing blank in a folder", ["a /b"]), ("513 bytes", ["a" * 513])]:
        bad.append(("name: " + n, container([(x, b"x") for x in names]) if not isinstance(names[0], bytes) else local(names[0], b"x") + b"x" + central(names[0], b"x", 0) + end(1, 46 + len(names[0]), 31 + len(names[0])), "directory" if n == "513 bytes" else "name"))
    for n, names in [("same name", ["a", "a"]), ("same name but for capitals", ["A.txt", "a.TXT"]), ("file and folder", ["a", "a/b"]), ("folder and file", ["a/b", "A"])]:
        bad.append(("duplicate: " + n, container([(x, b"x") for x in names]), "duplicate"))
    write("container/invalid.json", [dict(name=n, container_hex=b.hex(), reason=r) for n, b, r in bad])
    flipped = bytearray(good)
    flipped[35] ^= 1
    write("container/damaged.json", [dict(name="one bit of the first content", container_hex=flipped.hex(), entry="a.txt", reason="crc")])


# ---------------------------------------------------------------- package

ROLES = [("README.txt", "readme"), ("statements/", "statement"), ("receipts/", "receipt"), ("manifests/", "manifest"), ("objects/", "object"), ("heads/", "head"), ("checkpoints/", "checkpoint"),
         ("timestamps/renewals/", "renewal"), ("timestamps/statements/", "statement-timestamp"), ("timestamps/", "timestamp"), ("trust/alliance.json", "alliance"), ("trust/members/", "member-key"), ("trust/", "institution-key")]


def role(path):
    if path.startswith("members/"):
        kind = path.split(".")[1]
        return kind if path.count(".") == 2 else kind + "-receipt"
    if path.startswith("certificates/"):
        return "certificate" if path.endswith(".pem") else "issuance" if path.count(".") == 1 else "issuance-receipt"
    return next(r for p, r in ROLES if path.startswith(p))


def package():
    kid = sha(b"a member's key")
    files = [("README.txt", "说明\n".encode()), ("statements/000001.cose", b"statement 1"), ("receipts/000001.court.cose", b"receipt c"), ("receipts/000001.notary.cose", b"receipt n"),
             ("manifests/000001.json", b"{}"), ("objects/000001/02-证据 1.txt", FILE), ("objects/000001/01-a.bin", bytes(range(256))), ("statements/000002.cose", b"statement 2"),
             ("members/%s.enrolment.cose" % kid, b"enrolment"), ("members/%s.enrolment.court.cose" % kid, b"receipt e"), ("members/%s.passkey.cose" % kid, b"passkey"), ("members/%s.passkey.court.cose" % kid, b"receipt p"),
             ("certificates/%s.cose" % kid, b"issuance"), ("certificates/%s.court.cose" % kid, b"receipt i"), ("certificates/%s.pem" % kid, b"certificate"), ("heads/court.cose", b"head"), ("checkpoints/0", b"cp 0"), ("checkpoints/7", b"cp 7"),
             ("timestamps/7.tsa-1.tsr", b"token"), ("timestamps/statements/000002.tsa-1.tsr", b"own token"), ("timestamps/renewals/2036.ers", b"renewal"), ("trust/alliance.json", b"{}"), ("trust/court.pem", b"pem"), ("trust/court.%s.pem" % kid, b"pem"), ("trust/members/%s.pem" % kid, b"pem")]
    index = dict(v=1, alliance=sha(b"alliance"), trail=sha(b"statement 1"), tree_size=9,
                 files=[dict(path=p, role=role(p), size=len(c), sha256=sha(c), sm3=sm3(c)) for p, c in files],
                 steps=[dict(n=1, statement="statements/000001.cose", position=4, manifest="manifests/000001.json",
                             objects=[dict(path="objects/000001/01-a.bin", sha256=sha(bytes(range(256)))), dict(path="objects/000001/02-证据 1.txt", sha256=sha(FILE))],
                             receipts=["receipts/000001.court.cose", "receipts/000001.notary.cose"]),
                        dict(n=2, statement="statements/000002.cose", position=8, objects=[], receipts=[])])
    minimal = [("README.txt", b""), ("statements/000001.cose", b"s")]
    mindex = dict(v=1, alliance=sha(b"alliance"), trail=sha(b"s"), tree_size=1, files=[dict(path=p, role=role(p), size=len(c), sha256=sha(c), sm3=sm3(c)) for p, c in minimal],
                  steps=[dict(n=1, statement="statements/000001.cose", position=0, objects=[], receipts=[])])

    def pack(fs, ix):
        return container(fs + [("index.json", ix if isinstance(ix, bytes) else cbytes(ix))])
    write("package/valid.json", [dict(name="every kind of file", package_hex=pack(files, index).hex(), files=[p for p, _ in files], steps=2), dict(name="minimal", package_hex=pack(minimal, mindex).hex(), files=[p for p, _ in minimal], steps=1)])
    bad = []

    def case(name, reason, change, unreadable=False, small=False):
        f, x = (list(minimal), copy.deepcopy(mindex)) if small else (list(files), copy.deepcopy(index))
        r = change(f, x)
        f, x = r if isinstance(r, tuple) else (f, x)
        bad.append(dict(name=name, package_hex=pack(f, x).hex(), reason=reason, unreadable=unreadable))

    def add(path, content=b"x", listed=True, as_role=None):
        def change(f, x):
            f.append((path, content))
            if listed:
                x["files"].append(dict(path=path, role=as_role or role(path), size=len(content), sha256=sha(content), sm3=sm3(content)))
        return change
    case("no README", "not-a-package", lambda f, x: (f[1:], x), True)
    bad.append(dict(name="no index", package_hex=container(files).hex(), reason="not-a-package", unreadable=True))
    bad.append(dict(name="index not at the end", package_hex=container(files[:2] + [("index.json", cbytes(index))] + files[2:]).hex(), reason="not-a-package", unreadable=True))
    bad.append(dict(name="some other ZIP file", package_hex=container([("word/document.xml", b"<x/>")]).hex(), reason="not-a-package", unreadable=True))
    bad.append(dict(name="no ZIP file", package_hex=b"%PDF-1.7 and so on, for more than 22 bytes".hex(), reason="not-a-container", unreadable=True))
    bad.append(dict(name="cut short", package_hex=pack(files, index)[:-100].hex(), reason="truncated", unreadable=False))
    other = bytearray(container([("word/document.xml", b"<x/>"), ("b", b"")]))
    other[8] = 8
    bad.append(dict(name="some other ZIP file, compressed", package_hex=other.hex(), reason="local-header", unreadable=True))
    good = bytearray(pack(files, index))
    at = good.rindex(b'"trail":"') + 12
    good[at] = ord("0") if good[at] != ord("0") else ord("1")
    bad.append(dict(name="index altered", package_hex=good.hex(), reason="crc", unreadable=False))
    case("version 2", "version", lambda f, x: x.update(v=2, added="later"), True)
    bad.append(dict(name="index is not canonical", package_hex=pack(files, json.dumps(index).encode()).hex(), reason="index", unreadable=False))
    case("unknown field in the index", "index", lambda f, x: x.update(extra=1))
    case("file not listed", "not-listed", add("heads/notary.cose", listed=False))
    case("file listed and not there", "missing", lambda f, x: (f.pop(), None)[1])
    case("index lists itself", "missing", lambda f, x: x["files"].append(dict(path="index.json", role="readme", size=1, sha256=sha(b""), sm3=sm3(b""))))
    case("file listed twice", "index", lambda f, x: x["files"].append(x["files"][-1]))
    case("another order", "index", lambda f, x: x["files"].reverse())
    case("another size", "size", lambda f, x: x["files"][1].update(size=12))
    case("another role", "role", lambda f, x: x["files"][1].update(role="head"))
    for p in ["run.exe", "statements/1.cose", "statements/0000001.cose", "statements/000000.cose", "receipts/000001.Court.cose", "objects/000001/1-a", "objects/000001/001-a", "objects/000001/00-a", "objects/000001/03-a?b", "objects/000001/03-", "objects/03-a",
              "members/%s.cose" % kid, "members/%s.renewal.cose" % kid, "members/00.enrolment.cose", "members/%s.passkey.Court.cose" % kid, "certificates/%s" % kid, "certificates/%s.der" % kid, "certificates/%s.court.pem" % kid, "certificates/00.pem", "certificates/%s.a.b.cose" % kid, "heads/court.txt", "checkpoints/07", "checkpoints/x", "timestamps/7.tsr", "timestamps/statements/2.tsa-1.tsr", "timestamps/statements/000001.tsr", "timestamps/renewals/a/b", "trust/other.json", "trust/court.00.pem", "trust/members/court.pem"]:
        case("path " + p.replace(kid, "<kid>"), "path", add(p, as_role="readme"), small=True)
    case("statement of 64 KiB and a byte", "too-large", lambda f, x: (add("heads/ca.cose", bytes(65537))(f, x)), small=True)
    case("receipt of an enrolment that is missing", "missing", add("members/%s.enrolment.court.cose" % sha(b"other")))
    case("two objects of one number", "steps", add("objects/000001/01-b.bin"))
    case("no step", "steps", lambda f, x: (f[:1], dict(x, files=x["files"][:1], steps=[])))
    case("file of a step that is not named", "steps", add("receipts/000003.court.cose"))
    case("step without statement", "missing", lambda f, x: x["steps"].append(dict(n=3, statement="statements/000003.cose", position=8, objects=[], receipts=[])))
    case("steps numbered from 2", "steps", lambda f, x: x["steps"][0].update(n=2))
    case("manifest not named", "steps", lambda f, x: (x["steps"][0].pop("manifest"), None)[1])
    case("manifest named and not there", "steps", lambda f, x: x["steps"][1].update(manifest="manifests/000002.json"))
    case("objects without manifest", "steps", lambda f, x: add("objects/000002/01-a")(f, x))
    case("position outside the log", "steps", lambda f, x: x["steps"][1].update(position=9))
    case("object not named", "steps", lambda f, x: x["steps"][0]["objects"].pop())
    case("object with another digest", "steps", lambda f, x: x["steps"][0]["objects"][0].update(sha256=sha(b"other")))
    case("receipt not named", "steps", lambda f, x: x["steps"][0]["receipts"].pop())
    case("receipts not sorted", "steps", lambda f, x: x["steps"][0]["receipts"].reverse())
    write("package/invalid.json", bad)

    findings = []
    raw_ = bytearray(pack(files, index))
    raw_[raw_.index(FILE)] ^= 1
    findings.append(dict(name="object altered", package_hex=raw_.hex(), findings=[["objects/000001/02-证据 1.txt", "sha256"]]))
    x = copy.deepcopy(index)
    x["files"][1]["sm3"] = sm3(b"other")
    findings.append(dict(name="SM3 in the index is another file's", package_hex=pack(files, x).hex(), findings=[["statements/000001.cose", "sm3"]]))
    raw_ = pack(files, index)
    crc = struct.pack("<I", binascii.crc32(b"statement 2"))
    findings.append(dict(name="checksum in both headers wrong", package_hex=raw_.replace(crc, b"\1\2\3\4").hex(), findings=[["statements/000002.cose", "crc"]]))
    findings.append(dict(name="sound", package_hex=raw_.hex(), findings=[]))
    write("package/check.json", findings)
    write("package/names.json", [dict(name=n, safe=s) for n, s in [
        ("网页 截图.png", "网页 截图.png"), ("a/b\\c:d*e?f\"g<h>i|j.txt", "a_b_c_d_e_f_g_h_i_j.txt"), ("\u202egnp.exe", "_gnp.exe"), ("a\x00\n\x7f\u0085b", "a____b"), ("", "file"), ("..", "__"), (". .", "___"), ("a. ", "a__"),
        ("字" * 60 + ".jpeg", "字" * 38 + ".jpeg"), ("x" * 121, "x" * 120), ("x" * 119 + ". y", "x" * 117 + ". y"), ("x" * 119 + " yyyy", "x" * 119 + "_"), ("x" * 130 + ".abcdefghijklmno", "x" * 104 + ".abcdefghijklmno"), ("x" * 130 + ".abcdefghijklmnop", "x" * 120), ("." + "x" * 130, "." + "x" * 119),
        ("e\u0301", "e\u0301"), ("-rf", "-rf"), ("CON", "CON"), ("a\ufffdb", "a_b")]])


jcs()
manifest()
alliance()
containers()
package()

package api

import (
	"net/http"

	"golang.org/x/text/language"
)

const (
	english = "en"
	chinese = "zh-CN"
)

// language returns the first of the reader's languages that we have.
func (s *Server) language(r *http.Request) string {
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return s.config.Language
	}
	// By base language: x/text does not match zh-Hans or zh-TW to zh-CN.
	for _, t := range tags {
		switch base, _ := t.Base(); base.String() {
		case "zh":
			return chinese
		case "en":
			return english
		}
	}
	return s.config.Language
}

// words are what a person reads about a code: what happened, and what to do.
type words struct{ title, hint string }

func wordsOf(code, lang string) words {
	pair, ok := vocabulary[code]
	if !ok {
		pair = vocabulary["internal"]
	}
	if lang == chinese {
		return pair[1]
	}
	return pair[0]
}

// vocabulary has English and Chinese for every code; a test holds that it is
// complete. It is never changed.
var vocabulary = map[string][2]words{
	// Outcomes of statements, by evidence.Code.
	"ok":                 {{"Registered.", ""}, {"已登记。", ""}},
	"already-registered": {{"Registered before; the old position stands.", ""}, {"此前已登记，原有位置不变。", ""}},
	"empty":              {{"There are no bytes.", "Send the signed statement as the body."}, {"内容为空。", "请在请求正文中发送已签名的存证记录。"}},
	"oversize":           {{"The statement is too long.", "A statement holds digests only; put the content into a manifest and keep it with you."}, {"存证记录过长。", "存证记录只含摘要；内容请放入存证清单自行保存。"}},
	"malformed":          {{"This is not a statement.", "Compare the named field with the specification of statements."}, {"这不是有效的存证记录。", "请对照存证记录规范检查所指字段。"}},
	"not-deterministic":  {{"The statement is not in deterministic CBOR.", "Encode it by RFC 8949 section 4.2.1 before signing."}, {"存证记录未采用确定性 CBOR 编码。", "请按 RFC 8949 第 4.2.1 节编码后再签名。"}},
	"unknown-key":        {{"No member or institution has this key.", "Enrol the key at the alliance's CA institution first."}, {"没有成员或机构登记过此密钥。", "请先在联盟的 CA 机构登记该密钥。"}},
	"revoked-key":        {{"The key was revoked.", "Use a key that is not revoked; enrol a new one if there is none."}, {"密钥已被吊销。", "请改用未吊销的密钥；没有的话请重新登记。"}},
	"wrong-algorithm":    {{"The algorithm named is not the key's.", "Sign with the algorithm of the enrolled key."}, {"所标算法与密钥不符。", "请使用所登记密钥对应的算法签名。"}},
	"wrong-issuer":       {{"The issuer is not the holder of the key.", "Set the issuer to the member id under which the key is enrolled."}, {"签发者不是该密钥的持有人。", "请将签发者设为该密钥登记时的成员标识。"}},
	"bad-signature":      {{"The signature does not verify.", "Sign the statement again; do not change it afterwards."}, {"签名验证不通过。", "请重新签名，签名后不要再改动。"}},
	"clock-ahead":        {{"The signer's clock is too far ahead.", "Set the clock and sign again."}, {"签名方时钟超前过多。", "请校准时钟后重新签名。"}},
	"unknown-checkpoint": {{"The checkpoint named is not one of this log.", "Fetch /checkpoint of this alliance and sign again."}, {"所引用的检查点不属于本日志。", "请取得本联盟的 /checkpoint 后重新签名。"}},
	"not-allowed":        {{"This signer may not make this kind of statement.", "Have it signed by a party with that right."}, {"签名方无权作出此类记录。", "请由有权的一方签名。"}},
	"bad-key":            {{"The key to enrol is not acceptable.", "Make a new key: Ed25519, P-256 or SM2 in its standard form."}, {"拟登记的密钥不可接受。", "请重新生成标准形式的 Ed25519、P-256 或 SM2 密钥。"}},
	"expired-key":        {{"The certificate of the key has ended.", "Have it renewed by the institution that issued it; the key can stay the same."}, {"该密钥的证书已到期。", "请到签发机构续期证书，密钥可以不变。"}},
	"conflict":           {{"The statement contradicts the registry.", "Look the key up under /api/v1/members first."}, {"该记录与登记簿冲突。", "请先在 /api/v1/members 查询该密钥。"}},
	"manifest-mismatch":  {{"The manifest is not the one that was signed.", "Send the exact bytes whose digests the statement holds."}, {"清单与所签名的不一致。", "请发送与存证记录中摘要完全对应的原始字节。"}},
	// Batches.
	"stream-broken": {{"The stream cannot be read from here on.", "Check the framing at the place named and send the rest again; what was registered stays."}, {"数据流自此处起无法读取。", "请检查所指位置的分帧并重新发送其余部分；已登记的继续有效。"}},
	"batch-limit":   {{"The batch is longer than allowed.", "Send the rest in another request."}, {"批量超出上限。", "请将其余部分放入另一个请求。"}},
	"timeout":       {{"The data came too slowly.", "Send the rest again; what was registered stays."}, {"数据到达过慢。", "请重新发送其余部分；已登记的继续有效。"}},
	// The node's state.
	"overloaded":            {{"The node is busy.", "Send it again after the time named; sending the same twice is safe."}, {"节点繁忙。", "请在所示时间后重发；重复发送同一记录是安全的。"}},
	"rate-limit":            {{"Too many requests.", "Slow down, and try again after the time named."}, {"请求过于频繁。", "请放慢速度，并在所示时间后重试。"}},
	"disk-full":             {{"The node has no room for new statements.", "Send it to another institution, or try later."}, {"节点存储空间已满，暂不接受新记录。", "请发送给其他机构，或稍后再试。"}},
	"stopping":              {{"The node is stopping.", "Send it to another institution, or try again soon."}, {"节点正在停止。", "请发送给其他机构，或稍后再试。"}},
	"damaged":               {{"This node found damage in its own store and does not serve it.", "Ask another institution of the alliance."}, {"本节点发现自身存储损坏，暂不提供该数据。", "请向联盟的其他机构查询。"}},
	"unfinished":            {{"The request ended before the node was done.", "Send the same again; it is registered only once."}, {"请求在节点处理完成前结束。", "请原样重发；同一记录只会登记一次。"}},
	"not-ready":             {{"The node is not ready.", "Look at the reasons; try another institution meanwhile."}, {"节点尚未就绪。", "请查看原因；其间可改用其他机构。"}},
	"no-receipt":            {{"This institution has not signed a receipt for it yet.", "Try again soon, or take the receipts of the others."}, {"本机构尚未为其签发回执。", "请稍后再试，或先取用其他机构的回执。"}},
	"internal":              {{"Something went wrong in the node.", "Tell the institution the request's name; its log has the cause."}, {"节点内部出错。", "请将请求编号告知该机构，其日志中有原因。"}},
	"no-authority":          {{"This institution asks no timestamp authority.", "Ask another institution, or a timestamp authority itself."}, {"本机构没有配置时间戳机构。", "请改向其他机构提出，或直接向时间戳机构申请。"}},
	"authority-unavailable": {{"No timestamp authority gave a token.", "Try again after the time named; the deposit stands without it."}, {"没有时间戳机构给出时间戳。", "请在所示时间后重试；存证不受影响。"}},
	// Requests.
	"not-found":            {{"There is no such thing in this log.", "Check the value; what was just deposited may need a moment."}, {"本日志中没有该项。", "请核对；刚刚提交的记录可能需要片刻。"}},
	"no-route":             {{"There is no such address.", "The addresses are listed under /openapi.json."}, {"没有这个地址。", "全部地址见 /openapi.json。"}},
	"method-not-allowed":   {{"This address does not take this method.", "The Allow field lists those it takes."}, {"该地址不支持此方法。", "Allow 字段列出了支持的方法。"}},
	"unsupported-media":    {{"The body's media type is not one this address takes.", "Set Content-Type to one of those named."}, {"请求正文的媒体类型不受支持。", "请将 Content-Type 设为所列类型之一。"}},
	"not-acceptable":       {{"None of the media types asked for can be given.", "Ask for one of those named in Accept."}, {"无法提供所要求的媒体类型。", "请在 Accept 中使用所列类型。"}},
	"bad-request":          {{"The request is not in the expected form.", "Correct the named field."}, {"请求格式不正确。", "请更正所指字段。"}},
	"invalid-locator":      {{"This is not the address of a registration.", "Use the Location that the registration answered with."}, {"这不是有效的登记地址。", "请使用登记时返回的 Location。"}},
	"too-large":            {{"The body is too large.", "Send less at once."}, {"请求正文过大。", "请减少单次发送的内容。"}},
	"forbidden":            {{"This key may not see that.", "The owner of the trail can authorise the key in it."}, {"该密钥无权查看。", "存证事务的所有者可以在其中授权该密钥。"}},
	"signature-missing":    {{"This needs a signed request.", "Sign the request by RFC 9421 with a key the alliance knows."}, {"此操作需要签名的请求。", "请按 RFC 9421 用联盟已登记的密钥签名请求。"}},
	"signature-malformed":  {{"The request's signature is not in the expected form.", "Correct the named part."}, {"请求签名的格式不正确。", "请更正所指部分。"}},
	"signature-stale":      {{"The request's signature is too old or from the future.", "Set the clock and sign again."}, {"请求签名已过期或时间超前。", "请校准时钟后重新签名。"}},
	"signature-invalid":    {{"The request's signature does not fit the request.", "Sign exactly what is sent."}, {"请求签名与请求不符。", "请对实际发送的内容签名。"}},
	"signature-replayed":   {{"This signed request was used before.", "Sign each request anew."}, {"该签名请求已被使用过。", "请为每个请求重新签名。"}},
	"signature-too-many":   {{"Too many signed requests.", "Try again after the time named."}, {"签名请求过多。", "请在所示时间后重试。"}},
	"signature-wrong-host": {{"The request was addressed to a name this node does not go by.", "Use one of the addresses named."}, {"请求所用的地址不属于本节点。", "请使用所列地址之一。"}},
}

// scrapiWords are the title and detail that draft-ietf-scitt-scrapi-11 §2 gives
// for a problem, for answers in concise problem details.
func scrapiWords(p *Problem) (title, detail string) {
	switch p.Code {
	case "wrong-algorithm":
		return "Bad Signature Algorithm", "Signed Statement contained a non supported algorithm"
	case "empty", "malformed", "not-deterministic", "oversize", "too-large", "bad-request":
		if p.Field == "payload" {
			return "Payload Missing", "Signed Statement payload must be present"
		}
		return "Malformed request", "The request could not be parsed"
	case "invalid-locator":
		return "Invalid locator", "Operation locator is not in a valid form"
	case "not-found":
		if p.Field == "kid" {
			return "No such key", "No key could be found for this kid value"
		}
		return "Not Found", p.Detail
	case "unknown-key", "revoked-key", "expired-key", "wrong-issuer", "bad-signature", "clock-ahead", "unknown-checkpoint", "not-allowed", "bad-key", "conflict":
		return "Rejected", "Signed Statement not accepted by the current Registration Policy"
	case "rate-limit", "overloaded", "signature-too-many":
		return "Too Many Requests", p.Detail
	}
	title = wordsOf(p.Code, english).title
	if p.Detail == "" {
		return title, title
	}
	return title, p.Detail
}

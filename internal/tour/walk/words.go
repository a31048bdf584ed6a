package walk

import (
	"fmt"
	"strings"
)

// Languages of the pages.
const (
	Chinese = "zh-CN"
	English = "en"
)

// pair is a text in both languages.
type pair struct{ zh, en string }

func (p pair) in(lang string) string {
	if lang == English {
		return p.en
	}
	return p.zh
}

// words are what pages call things and say; a name that ends in "…" is the
// beginning of one.
func words() map[string]pair {
	return map[string]pair{
		"sign-in-with":   {"通过演示身份（虚构人物）登录", "Sign in with Demonstration identities (made up)"},
		"as":             {"以此身份登录: %s", "Sign in as this person: %s"},
		"signed-in":      {"已登录：", "You are signed in: "},
		"sign-out":       {"退出登录", "Sign out"},
		"signed-out":     {"您已退出本门户", "You are signed out of this portal"},
		"everywhere":     {"立即退出所有设备", "Sign out everywhere now"},
		"everywhere-out": {"所有设备上的登录均已失效", "All your sign-ins have ended"},

		"act-for":     {"代表%s办理", "Act for %s"},
		"acting":      {"正在代表%s办理", "Acting for %s"},
		"acting-back": {"切换回本人", "Switch back"},
		"acting-self": {"您现在以本人身份办理。", "You now act for yourself."},

		"device":       {"本设备的名称", "Name of this device"},
		"make-key":     {"生成并登记密钥", "Make and enrol the key"},
		"paper":        {"您的恢复密钥", "Your recovery key"},
		"paper-kept":   {"我已记在纸上", "I have it on paper"},
		"paper-field":  {"纸上的恢复密钥", "Recovery key from paper"},
		"go-on":        {"继续", "Continue"},
		"have-key":     {"本浏览器中已有密钥", "This browser has a key"},
		"restored":     {"个文件和清单可以在此打开。", "files and manifests can be opened here."},
		"label":        {"名称…", "Name…"},
		"add-passkey":  {"添加通行密钥", "Add a passkey"},
		"begin":        {"开始", "Begin"},
		"passkey-done": {"通行密钥已绑定。", "The passkey is bound."},

		"choose":        {"选择文件", "Choose files"},
		"step":          {"存证事项", "What is it for?"},
		"phase":         {"属于哪个阶段", "When does it belong?"},
		"phase-before":  {"事前：身份、同意、准备", "Before: identity, consent, preparation"},
		"phase-during":  {"事中：行为本身", "During: the act itself"},
		"phase-after":   {"事后：保管、查阅、和解", "After: keeping, access, settlement"},
		"note":          {"说明…", "Note…"},
		"place":         {"地点（您的陈述）…", "Place, as you state it…"},
		"confirm":       {"用通行密钥确认", "Confirm with my passkey"},
		"deposit":       {"存证", "Deposit"},
		"deposit-done":  {"完成，存证已最终确定。", "Done. The deposit is final."},
		"to-record":     {"查看记录", "See the record"},
		"proven":        {"所证明的内容", "What is proven"},
		"package":       {"生成证据包", "Make the evidence package"},
		"download":      {"下载 ", "Download "},
		"choose-packet": {"选择证据包", "Choose a package"},

		"kind-person":     {"开始个人认证", "Begin"},
		"kind-enterprise": {"开始企业登记", "Begin for an enterprise"},
		"name":            {"姓名", "Name"},
		"number":          {"居民身份证号码", "Resident identity number"},
		"enterprise":      {"企业名称", "Name of the enterprise"},
		"uscc":            {"统一社会信用代码", "Unified social credit code"},
		"representative":  {"法定代表人姓名", "Legal representative's name"},
		"rep-number":      {"法定代表人身份证号码", "Legal representative's identity number"},
		"power-deposit":   {"存证", "make deposits"},
		"power-sign":      {"签署文件与合同", "sign documents and contracts"},
		"power-file":      {"立案、提交与和解", "file, submit and settle at a court"},
		"power-keys":      {"查看并吊销其他代理人的密钥", "see and revoke other agents' keys"},
		"from":            {"授权起始日", "Mandate from"},
		"to":              {"授权截止日", "Mandate until"},
		"papers":          {"上传材料", "Upload papers"},
		"submit":          {"提交审核", "Submit"},
		"submitted":       {"申请已提交", "The application is with the desk"},

		"purpose":          {"查看目的", "Purpose"},
		"open":             {"记录并打开", "Record and open"},
		"outcome-approved": {"批准", "Approve"},
		"outcome-correct":  {"要求补正", "Ask for a correction"},
		"outcome-refused":  {"拒绝", "Refuse"},
		"level-2":          {"二级 · 证件核验", "Level 2 · document checked"},
		"level-3":          {"三级 · 当面或活体核验", "Level 3 · in person or live face"},
		"reason":           {"理由…", "Reason…"},
		"decide":           {"确定", "Decide"},
		"decided":          {"已处理，并已记录。", "It is decided and recorded."},
		"code-once":        {"只显示这一次", "It is shown this once"},

		"revoke":    {"吊销", "Revoke"},
		"sure":      {"我知道吊销不能撤回", "I know that this cannot be taken back"},
		"revoked":   {"已吊销，并已写入联盟日志。", "It is revoked, and the alliance's log says so."},
		"how-lost":  {"丢失或损坏", "lost or broken"},
		"stolen":    {"被盗，或他人可能用过", "stolen, or somebody else may have used it"},
		"lost-how":  {"经过", "How it happened"},
		"lost":      {"申请恢复", "Apply for recovery"},
		"code":      {"恢复码", "Recovery code"},
		"use-code":  {"使用恢复码", "Use the code"},
		"recovered": {"恢复码有效", "The code is good"},
	}
}

// word returns a text in the walker's language, with its arguments in it.
func (w *Walker) word(key string, args ...any) string {
	p, ok := w.words[key]
	if !ok {
		return "(no word " + key + ")"
	}
	text := p.in(w.Lang)
	if strings.Contains(text, "%") {
		return fmt.Sprintf(text, args...)
	}
	return text
}

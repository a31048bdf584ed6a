package main

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/signing"
)

// tokenKeys reads --token-key NAME=URI.
func (a *app) tokenKeys(flags []string) (map[string]string, error) {
	keys := map[string]string{}
	for _, text := range flags {
		name, uri, ok := strings.Cut(text, "=")
		if !ok || keys[name] != "" || !signing.IsTokenURI(uri) {
			return nil, usage(a.t("--token-key 应为 NAME=pkcs11:…，每把密钥一次", "--token-key is NAME=pkcs11:…, once for each key"),
				a.t("例如 --token-key 'receipt=pkcs11:token=court;object=receipt'", "for example --token-key 'receipt=pkcs11:token=court;object=receipt'"))
		}
		keys[name] = uri
	}
	return keys, nil
}

// newMemberKey makes a member's key in memory, or takes or makes the one on a
// token that the URI names.
func newMemberKey(alg evidence.Algorithm, onToken string) (*signing.Key, error) {
	if onToken == "" {
		return signing.Generate(alg, nil)
	}
	tokens := signing.NewTokens(signing.TokenConfig{})
	key, err := tokens.Key(onToken)
	if errors.Is(err, fs.ErrNotExist) {
		return tokens.Generate(onToken, alg)
	}
	return key, err
}

// explainToken says what a PKCS#11 token, or the way to it, answered.
func (a *app) explainToken(e *signing.TokenError) (what, hint string) {
	if a.lang != chinese {
		return e.Reason, e.Hint
	}
	sentences := map[signing.TokenCode][2]string{
		signing.TokenBadURI:    {"PKCS#11 URI 写得不对（" + e.Reason + "）", "写成 pkcs11:token=标签;object=标签；口令放在 0600 的文件里，用 pin-source=file:/路径 指明"},
		signing.TokenNoProgram: {"签名程序 zhenglian-token 没有安装或不能运行", "把它放在 zhenglian 旁边，或在 node.toml 的 [token] program 或 ZHENGLIAN_TOKEN_PROGRAM 中指明；编译它需要 cgo"},
		signing.TokenNoModule:  {"没有指明 PKCS#11 库，或它不能加载", "在 node.toml 的 [token] module、URI 的 module-path 或 ZHENGLIAN_TOKEN_MODULE 中指明"},
		signing.TokenNoToken:   {"没有找到这个令牌，或有不止一个同名的令牌", "检查令牌是否插好；同名时用 serial= 指明"},
		signing.TokenNoPIN:     {"没有给出令牌的口令", "在 node.toml 的 [token] pin_file 或 URI 的 pin-source 中指明 0600 的文件，或设置 ZHENGLIAN_TOKEN_PIN"},
		signing.TokenWrongPIN:  {"令牌拒绝了口令，不再重试：多次错误会锁住令牌", "更正口令后重新运行"},
		signing.TokenNoKey:     {"令牌上没有这把密钥", "检查 URI 中的 object 和 id"},
		signing.TokenKeyExists: {"令牌上已有同名的密钥，没有覆盖", "换一个 object"},
		signing.TokenBadKey:    {"令牌上的这把密钥不能用，或令牌不支持这种算法", "用 P-256；令牌支持时也可用 Ed25519"},
		signing.TokenFailed:    {"令牌没有按要求应答：" + e.Reason, "检查令牌是否插好、能否连通"},
	}
	s, ok := sentences[e.Code]
	if !ok {
		return e.Reason, e.Hint
	}
	return s[0], s[1]
}

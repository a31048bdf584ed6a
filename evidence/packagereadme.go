package evidence

// packageReadme is README.txt of every package: for the person who finds the
// file and knows nothing of us.
const packageReadme = `证据包 / Evidence package
========================

【这是什么】
这是由多家机构共同存证的证据包。每一份证据文件的摘要（SHA-256 与 SM3）写在“存证清单”里，
清单的摘要由存证人签名成为“存证记录”，存证记录登记在各机构共同维护的日志中，
每家机构分别签发“回执”，证明该记录在何时、何处被登记。

【里面有什么】
objects/       证据文件原件，按步骤分文件夹
manifests/     存证清单（JSON 文本，可直接阅读）
statements/    存证记录（COSE_Sign1，RFC 9052）
receipts/      各机构的回执（RFC 9942）
members/       存证人密钥（及通行密钥）的登记、注销记录与回执
certificates/  存证人的数字证书及其签发记录与回执；没有证书则无此文件夹
heads/         各机构签名的事务摘要：共有几步、最后一步是哪一条
checkpoints/   日志检查点（C2SP tlog-checkpoint，附各机构签名）
timestamps/    时间戳（RFC 3161）；取得了时间戳才有此文件夹
trust/         联盟文件与公钥，仅供查阅
index.json     目录：每个文件的大小、SHA-256、SM3

【如何核验】
1. 用 zhenglian-verify 程序或法院核验网页打开本文件，整个过程在本机完成，无需联网。
2. 也可以用通用工具逐项核对：
   unzip -t 本文件                      检查是否传输损坏
   sha256sum objects/000001/*           与 manifests/000001.json 中的 sha256 比较
   openssl dgst -sm3 文件               与清单中的 sm3 比较
   sha256sum manifests/000001.json      与 statements/000001.cose 所签的摘要比较
   openssl ts -verify                   核验时间戳（如有）
   任何支持 COSE Receipts 的工具         核验回执

【请注意】
不要相信证据包自带的公钥：请从法院或联盟机构另行取得联盟编号或核验策略，再与本包比较。
index.json 没有签名，只是目录。
核验通过只说明：这些数据自登记之时起未被改动、由谁登记。
它不证明登记之前的内容真实，也不证明权利归属。

------------------------------------------------------------------------------

WHAT THIS IS
Evidence that several institutions witnessed together. The digests (SHA-256 and
SM3) of every evidence file stand in a manifest; the depositor signed the
manifest's digest, which makes a statement; the statement is registered in a log
that all institutions hold; each institution issued a receipt that says so.

WHAT IS IN IT
objects/       the evidence files, one folder a step
manifests/     the manifests (JSON, readable as text)
statements/    the signed statements (COSE_Sign1, RFC 9052)
receipts/      each institution's receipt (RFC 9942)
members/       statements that enrolled (or revoked) the signers' keys and passkeys,
               with receipts
certificates/  the signers' certificates and the statements that registered them,
               with receipts; only where there are any
heads/         signed by each institution: how many steps the matter has, and the last
checkpoints/   checkpoints of the log (C2SP tlog-checkpoint) with cosignatures
timestamps/    timestamp tokens (RFC 3161); only where an authority gave any
trust/         the alliance's founding document and public keys, to look at
index.json     table of contents: size, SHA-256 and SM3 of every file

HOW TO CHECK IT
1. Open this file with the program zhenglian-verify or on the court's verification
   page. Everything runs on your own machine; no network is needed.
2. Or compare piece by piece with common tools:
   unzip -t FILE                        damaged in transport?
   sha256sum objects/000001/*           sha256 in manifests/000001.json
   openssl dgst -sm3 FILE               sm3 in the manifest
   sha256sum manifests/000001.json      the digest signed in statements/000001.cose
   openssl ts -verify                   timestamp tokens, if any
   any tool that knows COSE Receipts    receipts

PLEASE NOTE
Do not trust the keys that come with a package: ask the court or an institution of
the alliance for the alliance's id or a trust policy, and compare.
index.json is not signed; it is a table of contents.
A package that verifies shows that the data is unaltered since it was registered,
and by whom. It does not show that the content was true before, nor who owns it.
`

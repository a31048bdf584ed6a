package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// refuse records a request that is not carried, and answers it.
func (c *carrier) refuse(ctx context.Context, r request, conn *Connection, fail *Failure) {
	kept := c.conn
	c.conn = conn
	e := c.exchange(r)
	c.conn = kept
	e.Edits, e.RequestHead, e.BrowserHead = nil, nil, r.head.raw // nothing went to an origin
	e.Stage, e.Ended, e.Code, e.Error = StageEnd, time.Now(), fail.Code, fail.Error()
	if c.p.record(ctx, e) == nil {
		c.answer(fail)
	}
}

// refuseHead records what the browser said when it is no request. A connection
// that ends between requests is no failure.
func (c *carrier) refuseHead(ctx context.Context, h head, began time.Time, err error) {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return
	}
	fail := failure(CodeRequest, err, "what the browser sent is no request of HTTP/1.1")
	e := Exchange{ID: c.p.lastID.Add(1), Kind: KindHTTP, Conn: c.conn, Began: began, BrowserHead: h.raw,
		Stage: StageEnd, Ended: time.Now(), Code: fail.Code, Error: fail.Error()}
	if c.conn != nil {
		e.URL, e.Background = c.base(), c.p.background(c.conn.Host)
	}
	if c.p.record(ctx, e) == nil {
		c.answer(fail)
	}
}

// answer tells the browser, in the proxy's own words, that there is no response.
// It says so in its first line, so that nobody takes it for a page of the site.
func (c *carrier) answer(fail *Failure) {
	status, zh := "502 Bad Gateway", "未能取得该网址的响应。"
	en := "No response could be had from this address."
	switch fail.Code {
	case CodeRefusedAddress, CodeRefusedHost, CodeRefusedPort:
		status = "403 Forbidden"
		zh = "记录环境不访问该地址：只能访问公开网络的网站（80 和 443 端口）。请检查网址。"
		en = "The recording does not go to this address: it reaches sites of the public network alone (ports 80 and 443). Check the address."
	case CodeRequest:
		status = "400 Bad Request"
		zh, en = "浏览器的请求不符合 HTTP/1.1，未转发。", "The browser's request is not HTTP/1.1 as it should be and was not passed on."
	case CodeStalled:
		status = "504 Gateway Timeout"
		zh, en = "对方网站长时间没有响应。请稍后重试。", "The site did not respond in time. Try again later."
	case CodeResolve:
		zh, en = "域名解析没有结果。请检查网址。", "The name has no address. Check the address."
	case CodeResponse:
		zh, en = "对方网站的响应有歧义，无法如实记录，未显示。", "The site's response can be read in two ways; it cannot be recorded faithfully and is not shown."
	case CodeLimit:
		status = "503 Service Unavailable"
		zh, en = "本次记录的流量已达上限。请结束本次记录并新开一次。", "This recording has reached its limit of traffic. End it and begin another."
	case CodeSession, CodeBrowser:
		return
	}
	body := "证链记录代理的提示，不是网站的内容 / A word of the Zhenglian recording proxy, no content of the site\n\n" +
		zh + "\n" + en + "\n\n" + fail.Code + "\n"
	_, err := fmt.Fprintf(c.browser.w, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"+
		"X-Content-Type-Options: nosniff\r\nZhenglian-Proxy: %s\r\nConnection: close\r\n\r\n%s", status, len(body), fail.Code, body)
	if err == nil {
		_ = c.browser.w.Flush() // a browser that is gone needs no answer
	}
}

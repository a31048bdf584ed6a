package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// file is one file of the demonstration and its place in the trail.
type file struct {
	path  string
	size  int64
	phase string // before, during, after
	step  string
}

// look checks that the files can be read and gives each a phase: the first is
// before, the last after, those between during; a single one is during.
func (p *play) look(paths []string) ([]file, error) {
	if len(paths) == 0 {
		return nil, errors.New(p.t("没有指定文件：zhenglian demo FILE…", "no file is named: zhenglian demo FILE…"))
	}
	var files []file
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		switch {
		case info.IsDir():
			return nil, errors.New(p.t(path+" 是文件夹；请给出其中的文件", path+" is a folder: name the files in it"))
		case !info.Mode().IsRegular():
			return nil, errors.New(p.t(path+" 不是普通文件", path+" is no regular file"))
		case info.Size() == 0:
			return nil, errors.New(p.t(path+" 是空文件；请换一个有内容的文件", path+" is an empty file: name one with content"))
		}
		phase := "during"
		if len(paths) > 1 && i == 0 {
			phase = "before"
		} else if len(paths) > 1 && i == len(paths)-1 {
			phase = "after"
		}
		files = append(files, file{path: path, size: info.Size(), phase: phase, step: p.stepName(path)})
	}
	return files, nil
}

// stepName says what a file is, by its extension.
func (p *play) stepName(path string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".pdf", ".doc", ".docx", ".txt":
		return p.t("固定文书", "document secured")
	case ".jpg", ".jpeg", ".png", ".heic", ".tif", ".tiff", ".webp":
		return p.t("现场拍照", "photograph taken")
	case ".mp4", ".mkv", ".mov", ".avi", ".webm":
		return p.t("过程录像", "process recorded")
	}
	return p.t("固定文件", "file secured")
}

// size in the unit a person would use.
func size(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

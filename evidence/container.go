package evidence

import "io"

// ContainerError says at which byte and in which entry a container deviates.
type ContainerError struct {
	Offset int64
	Entry  string
	Code   string
	Reason string
}

func (e *ContainerError) Error() string { return e.Reason }

// ContainerWriter writes the strict stored-only ZIP of spec/package.md part 1.
type ContainerWriter struct{}

// NewContainerWriter: w must be empty; an io.Seeker as well if Add is used.
func NewContainerWriter(w io.Writer) *ContainerWriter { return nil }

// Add streams size bytes of r; size -1 when unknown (then below 4 GiB).
func (w *ContainerWriter) Add(name string, size int64, r io.Reader) error { return errSoon }
func (w *ContainerWriter) AddBytes(name string, content []byte) error     { return errSoon }
func (w *ContainerWriter) Close() error                                   { return errSoon }

// ContainerEntry is one file in a container.
type ContainerEntry struct {
	Name   string
	Size   int64
	CRC32  uint32
	Offset int64 // of the content
}

type Container struct{}

func OpenContainer(r io.ReaderAt, size int64) (*Container, error) { return nil, errSoon }
func (c *Container) Entries() []ContainerEntry                    { return nil }
func (c *Container) Open(name string) (*io.SectionReader, error)  { return nil, errSoon }
func (c *Container) CheckEntry(name string) error                 { return errSoon }
func (c *Container) Check() error                                 { return errSoon }

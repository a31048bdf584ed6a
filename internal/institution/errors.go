package institution

// ErrorCode is a stable word for what is wrong with a home; commands choose
// their sentence in the reader's language by it.
type ErrorCode string

// What can be wrong with a home.
const (
	CodeExists        ErrorCode = "home-exists"        // Init: there is something already
	CodeInterrupted   ErrorCode = "init-interrupted"   // keys without a descriptor
	CodeNoHome        ErrorCode = "no-home"            // no descriptor.json
	CodeParams        ErrorCode = "bad-parameters"     // Init: no descriptor can be made of them
	CodeDescriptor    ErrorCode = "bad-descriptor"     // descriptor.json was altered
	CodeKeyMissing    ErrorCode = "key-missing"        // a key file is not there
	CodeKeyMismatch   ErrorCode = "key-mismatch"       // a key file holds another key than the descriptor says
	CodeKeyUnreadable ErrorCode = "key-unreadable"     // exposed, damaged or not ours
	CodeAlliance      ErrorCode = "bad-alliance"       // alliance.json was altered or is none
	CodeNotInAlliance ErrorCode = "not-in-alliance"    // the alliance has no institution of this id
	CodeOtherSelf     ErrorCode = "other-descriptor"   // the alliance has this id with another descriptor
	CodeOtherAlliance ErrorCode = "already-joined"     // Join: it belongs to another alliance
	CodeNotJoined     ErrorCode = "not-joined"         // the operation needs alliance.json
	CodeConfig        ErrorCode = "bad-settings"       // node.toml or portal.toml cannot be read
	CodeConfigUnknown ErrorCode = "unknown-setting"    // Subject, in node.toml or the environment, is no setting
	CodeConfigValue   ErrorCode = "bad-setting"        // Subject has a value that it cannot have
	CodeUnknownPeer   ErrorCode = "unknown-peer"       // not an institution of the alliance
	CodeTSA           ErrorCode = "bad-tsa"            // the timestamp authority's files, or those of one to ask
	CodePortal        ErrorCode = "portal-exists"      // MakePortal: there is a portal.toml already
	CodeRotation      ErrorCode = "bad-rotation"       // the files of a key that is being replaced; Subject names a use that cannot be
	CodeNoSM2         ErrorCode = "no-sm2"             // there is no SM2 key to replace
	CodePeerKey       ErrorCode = "peer-key-not-known" // a TLS peer with a key of nobody, or somebody else's
)

// Error says what is wrong with which file of a home, and what to do.
type Error struct {
	Code ErrorCode
	Path string // file or directory
	// Subject is the setting or the environment variable, where it is about one.
	Subject string
	Reason  string // one sentence
	Hint    string // what to do
	Err     error  // what lies underneath; may be nil
}

func (e *Error) Error() string {
	s := e.Path + ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

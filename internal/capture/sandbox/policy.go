package sandbox

import "encoding/json"

// Policy is the browser's managed policy, as its JSON file has it: what page,
// person and browser may not do whatever they ask for. Its digest belongs into
// the record.
func Policy() []byte {
	p := map[string]any{
		// Addresses: http and https alone. The driver's own list comes before; this one
		// also stands against links, redirects, frames and extensions.
		"URLBlocklist": []string{"file://*", "chrome://*", "chrome-untrusted://*", "chrome-extension://*", "chrome-search://*", "devtools://*", "view-source:*", "ftp://*", "filesystem:*", "content://*", "isolated-app://*"},
		// Nothing that speaks past the proxy.
		"QuicAllowed": false, "DnsOverHttpsMode": "off", "BuiltInDnsClientEnabled": false, "DnsPrefetchingEnabled": false,
		"WebRtcIPHandling": "disable_non_proxied_udp", "WebRtcUdpPortRange": "1-1", "WebRtcEventLogCollectionAllowed": false,
		"DefaultDirectSocketsSetting": 2, "EnableMediaRouter": false, "NetworkPredictionOptions": 2,
		// Nothing that the browser does by itself.
		"SyncDisabled": true, "BrowserSignin": 0, "ComponentUpdatesEnabled": false, "MetricsReportingEnabled": false, "UrlKeyedAnonymizedDataCollectionEnabled": false,
		"SafeBrowsingProtectionLevel": 0, "SearchSuggestEnabled": false, "AlternateErrorPagesEnabled": false, "SpellCheckServiceEnabled": false, "TranslateEnabled": false,
		"BackgroundModeEnabled": false, "AutofillAddressEnabled": false, "AutofillCreditCardEnabled": false, "PasswordManagerEnabled": false, "PromotionsEnabled": false,
		"DomainReliabilityAllowed": false, "ChromeVariations": 2, "OptimizationGuideFetchingEnabled": false, "GenAiDefaultSettings": 2, "ShoppingListEnabled": false,
		// Nothing that changes the browser or leaves it.
		"ExtensionInstallBlocklist": []string{"*"}, "AllowFileSelectionDialogs": false, "PrintingEnabled": false, "DefaultBrowserSettingEnabled": false,
		"ExternalProtocolDialogShowAlwaysOpenCheckbox": false, "RemoteDebuggingAllowed": true, "BrowserAddPersonEnabled": false, "BrowserGuestModeEnabled": false, "IncognitoModeAvailability": 1,
		"AudioCaptureAllowed": false, "VideoCaptureAllowed": false, "ScreenCaptureAllowed": false, "DefaultGeolocationSetting": 2, "DefaultNotificationsSetting": 2,
		"DefaultWebUsbGuardSetting": 2, "DefaultWebBluetoothGuardSetting": 2, "DefaultSerialGuardSetting": 2, "DefaultWebHidGuardSetting": 2, "DefaultFileSystemReadGuardSetting": 2, "DefaultFileSystemWriteGuardSetting": 2,
		// A page is shown as it is: nothing held back, nothing asked before a download.
		"DownloadRestrictions": 0, "PromptForDownloadLocation": false, "BlockThirdPartyCookies": false,
	}
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return nil // strings, numbers and booleans: cannot be
	}
	return append(b, '\n')
}

package event

// PercentEncode lets tests see how header values are encoded.
var PercentEncode = percentEncode

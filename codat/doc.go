// Package codat is the client of the three operations of Codat's push API that
// pushwatch needs: list_operations as a walk of pages ([Client.Walk]),
// get_operation ([Client.Get]) and get_model_options ([Client.Options]).
//
// It guarantees:
//
//   - No request is sent uncounted. Every request stands between an Admit and a
//     Settle of the [Gate], and is written to the wire at most once: redirects
//     are not followed, links of the server are not followed, and the silent
//     resend of net/http after a broken connection is switched off. The client
//     never retries by itself; what to ask next is the caller's to say.
//   - The key goes nowhere else. The Authorization header is added by the last
//     step before the wire, and only for the configured origin. No error holds
//     the key, a header's value or a body; of an error answer only the server's
//     own message is kept, with the key removed and control characters escaped.
//     No proxy is used, not even one named by the environment: a proxy is a party
//     to every request, so whoever wants one passes a Transport that names it.
//   - Everything is bounded: the time of a request, its body after decompression
//     (16 MiB for a page, 4 MiB otherwise), a record (8 MiB), nesting (64), records
//     of a page (5,000, more is malformed and never cut), pages of a walk, texts
//     (64 KiB).
//   - One bad record hurts nobody else. Records are decoded one by one. A record
//     whose identity or status cannot be read for certain is handed back as
//     [push.Quarantined] with a class out of [Classes], also when it alone is too
//     large for the body of a page; one that only tells something optional badly is
//     an operation with that field empty and a flag that says so. Names of fields
//     match exactly, letter by letter.
//   - Text of an operation is valid UTF-8 without NUL and its times are in the
//     normal form of [push.Time], so that equal operations compare equal.
//   - [push.Page.Ordered] is proved, never assumed, and [push.Page.Last] is true
//     on the final page of a walk that came to its end, and on no other.
//
// A Client keeps no state but, for an hour, which companies' lists refuse an
// order; its own transport holds no connection and no goroutine between requests.
// Failures are [*push.AskError] with a Kind out of [push.Kinds], possibly wrapped.
package codat

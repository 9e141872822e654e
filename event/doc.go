// Package event is the public contract: what a change looks like in the stream.
// It defines the events, their ids and subjects, their encoding, and the JSON
// Schemas of their bodies ([Schema]).
//
// It guarantees that an event's id, subject, headers and bytes are functions of
// the event alone, so that encoding twice gives the same message; that no company,
// data type, key or status, whatever bytes it holds, makes an illegal subject or
// the subject of another operation; that a subject and the filter of its operation
// come from one function ([Subjects]); and that every body is at most [MaxSize]
// long and valid by its schema. The body is enough without the headers.
//
// # Messages
//
// A message is a CloudEvents 1.0 event in binary mode, as the CloudEvents NATS
// protocol binding describes it (1.0.3; 1.0.2 knows structured mode only): every
// attribute is a header with the prefix "ce-", its value percent-encoded, and the
// data is the message's payload. Unlike in HTTP, datacontenttype is such a header
// too; content-type stands beside it for those who know no CloudEvents.
//
//	subject  codat.push.<companyId>.<dataType>.<pushOperationKey>.<event>
//	ce-id    <instance>-<digest of company and key>-<version>
//	payload  {"id":…,"type":…,"event":…,"version":…, …}
//
// # Reading them
//
// Versions of one operation count from 1 without gaps and come in order; a message
// may be delivered more than once, so keep the ids, or per operation the highest
// version, of what was done. Event names and statuses are open sets: take an
// unknown one as "not finished". Version 1 of a schema only ever gains optional
// keys; anything else becomes a new type, published beside the old one.
//
// History that is published again comes below a prefix of its own, with "replay"
// true and the replay's id in "replayId" and the header ce-replayid. Its ids are
// those of the originals with "-r" and that id behind them ([Replayed]); everything
// else is as it was.
package event

package main

import (
	"context"
	"regexp"
	"strings"
	"time"
)

// samples are what one repetition of a measurement brought, by series.
type samples map[string]float64

// measurement is something that is done once a repetition.
type measurement struct {
	name   string
	series []series // what it brings
	do     func(context.Context, *rig) (samples, error)
}

// series is one number a repetition.
type series struct{ name, title, unit string }

// The units.
const (
	eventRate     = "events/s"
	operationRate = "operations/s"
	rowRate       = "rows/s"
	millisecond   = "ms"
	mebibyte      = "MiB"
)

// measurements are all of them, the limits first.
func measurements() []measurement {
	return []measurement{
		{"disk", []series{{"fsync", "fsync of 4 KiB at the end of a file", millisecond}}, measureDisk},
		{"limit-publish", []series{
			{"publish", "limit: PublishMsgAsync, window 4096, the relay's messages without expected sequence", eventRate},
			{"publish-bare", "the same, bodies alone, without headers and ids", eventRate},
		}, measurePublish},
		{"limit-insert", []series{{"insert", "limit: insert from unnest, 500 rows a statement", rowRate}}, measureInsert},
		{"limit-decode", []series{{"decode", "limit: encoding/json of whole operations", operationRate}}, measureDecode},
		{"limit-sync", []series{{"sync-publish", "limit under SyncAlways: PublishMsgAsync, window 4096", eventRate}}, measurePublishStrict},
		{"peer-sync", []series{
			{"sync-peer", "peer under SyncAlways: select, publish, update by hand, batch 256", eventRate},
			{"sync-peer-single", "the same, each message acknowledged before the next", eventRate},
		}, measurePeer},
		{"record", []series{
			{"record-new", "record, all new", operationRate},
			{"record-changed", "record, 10 % changed", operationRate},
			{"record-same", "record, none changed", operationRate},
		}, measureRecord},
		{"relay-first", []series{{"relay-first", "relay, first events of new operations", eventRate}}, measureRelayFirst},
		{"relay-later", []series{{"relay-later", "relay, later events among many subjects", eventRate}}, measureRelayLater},
		{"relay-sync", []series{{"sync-relay", "relay under SyncAlways", eventRate}}, measureRelayStrict},
		{"end-to-end", []series{
			{"sweep-changed", "page over HTTP to acknowledged event, 10 % changed", operationRate},
			{"sweep-same", "page over HTTP to recorded, none changed", operationRate},
		}, measureEndToEnd},
		{"idle", []series{
			{"wake-p50", "commit to consumer, idle, p50", millisecond},
			{"wake-p99", "commit to consumer, idle, p99", millisecond},
			{"sync-wake-p50", "commit to consumer under SyncAlways, idle, p50", millisecond},
			{"sync-wake-p99", "commit to consumer under SyncAlways, idle, p99", millisecond},
		}, measureIdle},
		{"memory", []series{
			{"rss-few", "relay's peak memory, 10,000 events waiting", mebibyte},
			{"rss-many", "relay's peak memory, 100,000 events waiting", mebibyte},
			{"heap-few", "relay's peak heap, 10,000 events waiting", mebibyte},
			{"heap-many", "relay's peak heap, 100,000 events waiting", mebibyte},
			{"relay-few", "relay, the first 10,000 of 10,000 waiting", eventRate},
			{"relay-many", "relay, the first 10,000 of 100,000 waiting", eventRate},
		}, measureMemory},
	}
}

func names() string {
	var all []string
	for _, m := range measurements() {
		all = append(all, m.name)
	}
	return strings.Join(all, ", ")
}

// comparison is a target: the ratio of two series in one repetition, or the value
// of one.
type comparison struct {
	name, title string
	of, to      string  // series; to is empty for a value
	known       float64 // what a peer has of the same ratio, by which it is divided; 0: none
	target      float64
	most        bool // the target is the most that is allowed, else the least
	told        bool // there is no target: the number is told beside the others
}

// comparisons are the targets.
func comparisons() []comparison {
	return []comparison{
		{name: "relay-first", title: "relay with expected sequence, first events, to async 4096", of: "relay-first", to: "publish", target: 0.7},
		{name: "relay-first-bare", title: "the same, to async 4096 of bodies alone", of: "relay-first", to: "publish-bare", told: true},
		{name: "relay-watermill", title: "the first events' ratio, to that of a Watermill forwarder, batch of 1,000",
			of: "relay-first", to: "publish", known: watermillBatched, target: 10},
		{name: "relay-river", title: "the first events' ratio, to that of River, tuned", of: "relay-first", to: "publish", known: riverTuned, target: 8},
		{name: "relay-later", title: "relay with expected sequence, later events among many subjects, to async 4096",
			of: "relay-later", to: "publish", target: 0.45},
		{name: "relay-later-bare", title: "the same, to async 4096 of bodies alone", of: "relay-later", to: "publish-bare", told: true},
		{name: "sync-relay", title: "relay under SyncAlways, to select, publish, update under it", of: "sync-relay", to: "sync-peer", target: 15},
		{name: "sync-relay-single", title: "the same, where that waits for each message", of: "sync-relay", to: "sync-peer-single", told: true},
		{name: "sync-relay-limit", title: "relay under SyncAlways, to async 4096 without", of: "sync-relay", to: "publish", told: true},
		{name: "sync-publish", title: "async 4096 under SyncAlways, to the same without", of: "sync-publish", to: "publish", told: true},
		{name: "record-new", title: "record, all new, to unnest-500", of: "record-new", to: "insert", target: 0.75},
		{name: "record-changed", title: "record, 10 % changed, to unnest-500", of: "record-changed", to: "insert", target: 2.5},
		{name: "record-same", title: "record, none changed, to unnest-500", of: "record-same", to: "insert", target: 5},
		{name: "sweep-changed", title: "end to end, 10 % changed, to unnest-500", of: "sweep-changed", to: "insert", target: 2},
		{name: "sweep-same", title: "end to end, none changed, to unnest-500", of: "sweep-same", to: "insert", target: 4},
		{name: "sweep-decode", title: "end to end, none changed, to decoding alone", of: "sweep-same", to: "decode", told: true},
		{name: "wake-p99", title: "commit to consumer, idle, p99, ms", of: "wake-p99", target: 5, most: true},
		{name: "sync-wake-p99", title: "the same under SyncAlways, ms", of: "sync-wake-p99", told: true},
		{name: "memory", title: "peak memory, 100,000 events waiting, MiB", of: "rss-many", target: 80, most: true},
		{name: "memory-growth", title: "peak memory, 100,000 events waiting, to 10,000", of: "rss-many", to: "rss-few", target: 1.1, most: true},
		{name: "relay-backlog", title: "relay, 100,000 events waiting, to 10,000", of: "relay-many", to: "relay-few", told: true},
	}
}

// picked returns what a regexp picks, with what that is compared with.
func picked(all []measurement, pick *regexp.Regexp) []measurement {
	by := map[string]string{} // series to measurement
	wanted := map[string]bool{}
	for _, m := range all {
		wanted[m.name] = pick == nil || pick.MatchString(m.name)
		for _, s := range m.series {
			by[s.name] = m.name
		}
	}
	var bases []string
	for _, c := range comparisons() {
		if wanted[by[c.of]] && c.to != "" {
			bases = append(bases, by[c.to])
		}
	}
	for _, name := range bases {
		wanted[name] = true
	}
	var some []measurement
	for _, m := range all {
		if wanted[m.name] {
			some = append(some, m)
		}
	}
	return some
}

func rateOf(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

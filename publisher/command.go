package publisher

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// byFile stands for flags where the nats CLI has none, but takes a file.
const byFile = "--config=FILE"

// editCommand returns the command of the nats CLI that mends differences, or
// says what to do where the server does not let a setting be edited.
func editCommand(name string, differences []Difference) string {
	var flags, fixed []string
	for _, d := range differences {
		if d.flags == byFile {
			return fmt.Sprintf("write its configuration to a file with: nats stream info %s --json >FILE, mend %s in it, then: nats stream edit %s --config=FILE",
				name, d.Field, name)
		}
		if d.flags == "" {
			fixed = append(fixed, d.Field)
		} else {
			flags = append(flags, d.flags)
		}
	}
	if len(fixed) > 0 {
		return fmt.Sprintf("%s cannot be mended by an edit: set nats.stream to another name, or move the stream away",
			strings.Join(fixed, ", "))
	}
	return fmt.Sprintf("mend it with: nats stream edit %s %s", name, strings.Join(flags, " "))
}

// addCommand returns the command of the nats CLI that makes the wanted stream.
func addCommand(want jetstream.StreamConfig) string {
	return fmt.Sprintf("nats stream add %s --subjects='%s' --storage=file --retention=limits --discard=new"+
		" --max-age=%s --max-bytes=%d --max-msg-size=%d --dupe-window=%s --replicas=%d --compression=s2"+
		" --no-allow-direct --no-allow-rollup --deny-delete --deny-purge --allow-batch --defaults",
		want.Name, want.Subjects[0], spell(want.MaxAge), limit(want.MaxBytes), want.MaxMsgSize, spell(want.Duplicates), want.Replicas)
}

// roomCommand says how to make room in a stream that refuses messages with
// description, where it is room that they want.
func roomCommand(is jetstream.StreamConfig, description string) string {
	edit := "make room with: nats stream edit " + is.Name + " "
	switch {
	case strings.Contains(description, "too many requests"):
		return "that is no matter of room: the server has more to do than it can"
	case strings.Contains(description, "maximum bytes"):
		return edit + fmt.Sprintf("--max-bytes=%d", 2*is.MaxBytes)
	case strings.Contains(description, "maximum messages per subject"):
		return edit + "--max-msgs-per-subject=-1"
	case strings.Contains(description, "maximum messages"):
		return edit + fmt.Sprintf("--max-msgs=%d", 2*is.MaxMsgs)
	}
	return "raise the JetStream limits of the NATS server (max_file_store, restart it) or of the account, or free its disk"
}

package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Each function here returns the reader of one type of value. A reader's error
// says which value is wrong and what is allowed.

func text(to *string) func(string) error {
	return func(value string) error {
		*to = value
		return nil
	}
}

func secret(to *Secret) func(string) error {
	return func(value string) error {
		*to = Secret(value)
		return nil
	}
}

func oneOf(to *string, allowed ...string) func(string) error {
	return func(value string) error {
		for _, a := range allowed {
			if value == a {
				*to = value
				return nil
			}
		}
		return refuse(value, "one of "+strings.Join(allowed, ", "))
	}
}

func mode(to *string) func(string) error {
	return func(value string) error {
		if value == "adaptive" {
			return fmt.Errorf("%q is not built yet, there is: cron", value)
		}
		return oneOf(to, "cron")(value)
	}
}

func cron(to *string, check func(string) error) func(string) error {
	return func(value string) error {
		if check != nil {
			if err := check(value); err != nil {
				return err
			}
		}
		*to = value
		return nil
	}
}

func boolean(to *bool) func(string) error {
	return func(value string) error {
		if value != "true" && value != "false" {
			return refuse(value, "true or false")
		}
		*to = value == "true"
		return nil
	}
}

func whole(to *int, least, most int) func(string) error {
	return func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return refuse(value, fmt.Sprintf("a whole number from %d to %d", least, most))
		}
		*to = n
		return nil
	}
}

func bytes(to *int64) func(string) error {
	return func(value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return refuse(value, "a whole number of bytes, 0 or more")
		}
		*to = n
		return nil
	}
}

func share(to *float64, least, most float64) func(string) error {
	return func(value string) error {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || !(f >= least && f <= most) { // so that NaN is refused
			return refuse(value, fmt.Sprintf("a number from %g to %g", least, most))
		}
		*to = f
		return nil
	}
}

func duration(to *time.Duration) func(string) error {
	return func(value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return refuse(value, "a duration above 0 with its unit, such as 90s, 20m or 168h")
		}
		*to = d
		return nil
	}
}

// age is a duration of which 0 stands for ever.
func age(to *time.Duration) func(string) error {
	return func(value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return refuse(value, "0 for ever, or a duration with its unit, such as 90m or 720h")
		}
		*to = d
		return nil
	}
}

func level(to *slog.Level) func(string) error {
	return func(value string) error {
		var name string
		if err := oneOf(&name, "debug", "info", "warn", "error")(value); err != nil {
			return err
		}
		return to.UnmarshalText([]byte(name))
	}
}

func streamName(to *string) func(string) error {
	return func(value string) error {
		illegal := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`.*>/\`, r) }
		if strings.ContainsFunc(value, illegal) || len(value) > 255 {
			return refuse(value, `a stream name: at most 255 ASCII characters without spaces and . * > / \`)
		}
		*to = value
		return nil
	}
}

func subjectPrefix(to *string) func(string) error {
	return func(value string) error {
		illegal := func(r rune) bool {
			return !(r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || r == '_' || r == '-')
		}
		for token := range strings.SplitSeq(value, ".") {
			if token == "" || strings.ContainsFunc(token, illegal) {
				return refuse(value, "a subject prefix: words of A-Za-z0-9_- joined by dots")
			}
		}
		*to = value
		return nil
	}
}

func listen(to *string) func(string) error {
	return func(value string) error {
		_, port, err := net.SplitHostPort(value)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return refuse(value, "a host:port with a port from 0 to 65535")
		}
		*to = value
		return nil
	}
}

// local is listen for addresses that only this machine reaches.
func local(to *string) func(string) error {
	return func(value string) error {
		if err := listen(to)(value); err != nil {
			return err
		}
		if !loopback(value) {
			return refuse(value, "a loopback address, such as 127.0.0.1:6060")
		}
		return nil
	}
}

// loopback reports whether only this machine reaches what listens at address.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

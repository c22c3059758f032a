// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"regexp"
	"unicode/utf8"
)

// pattern describes a string. The schemas carry the same expressions; a test compares them.
type pattern struct {
	what   string         // for messages
	expr   *regexp.Regexp // must match
	refuse *regexp.Regexp // must not match; may be nil
	max    int            // characters; 0: as many as expr allows
}

func (p pattern) match(s string) bool {
	return p.expr.MatchString(s) && (p.refuse == nil || !p.refuse.MatchString(s)) &&
		(p.max == 0 || utf8.RuneCountInString(s) <= p.max)
}

var (
	// namePattern fits what becomes part of messages, metrics and file names.
	namePattern = pattern{
		what: "a name of at most 63 letters, digits, '.', '_' and '-', which begins and ends with a letter or digit",
		expr: regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`),
	}
	// interfacePattern is dev_valid_name of the kernel (net/core/dev.c) for ASCII, and no '%', which the kernel takes
	// for a place where it may put a number.
	interfacePattern = pattern{
		what:   "the name of a network interface (at most 15 printable ASCII characters, no space, '/', ':' or '%')",
		expr:   regexp.MustCompile(`^[!-$&-.0-9;-~]{1,15}$`),
		refuse: regexp.MustCompile(`^\.{1,2}$`),
	}
	pathPattern = pattern{
		what:   "an absolute path without '.', '..', empty parts or unusual characters",
		expr:   regexp.MustCompile(`^(/[A-Za-z0-9._@+,=~-]+)+$`),
		refuse: regexp.MustCompile(`/\.{1,2}(/|$)`),
		max:    4095,
	}
	// socketPattern is a path that fits sun_path of unix(7).
	socketPattern = pattern{
		what:   "the absolute path of a Unix socket, at most 107 characters, without '.', '..', empty parts or unusual characters",
		expr:   regexp.MustCompile(`^(/[A-Za-z0-9._@+,=~-]+)+$`),
		refuse: regexp.MustCompile(`/\.{1,2}(/|$)`),
		max:    107,
	}
	tpmPattern = pattern{
		what:   "a TPM: the absolute path of a device, such as /dev/tpmrm0, or unix: and the absolute path of a socket",
		expr:   regexp.MustCompile(`^(unix:)?(/[A-Za-z0-9._@+,=~-]+)+$`),
		refuse: regexp.MustCompile(`/\.{1,2}(/|$)`),
		max:    len("unix:") + 107,
	}
	// groupPattern is a portable group name (POSIX.1-2024, 3.407). One of digits only could be taken for a number.
	groupPattern = pattern{
		what:   "the name of a group, not its number",
		expr:   regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]{0,31}$`),
		refuse: regexp.MustCompile(`^[0-9]+$`),
	}
	// userPattern is a portable user name (POSIX.1-2024, 3.407, 3.413), or a number.
	userPattern = pattern{
		what: "the name of a user, or its number in quotes",
		expr: regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9._-]{0,31}|[0-9]{1,10})$`),
	}
	kidPattern = pattern{
		what: "a kid of 16 lower-case hexadecimal digits",
		expr: regexp.MustCompile(`^[0-9a-f]{16}$`),
	}
	base64Pattern = pattern{
		// 91 bytes of DER for P-256, 120 for P-384.
		what: "base64 of the DER SubjectPublicKeyInfo of a P-256 or P-384 key, in one piece",
		expr: regexp.MustCompile(`^([A-Za-z0-9+/]{122}==|[A-Za-z0-9+/]{160})$`),
	}
	// signalPattern is a C identifier of the length that DBC allows.
	signalPattern = pattern{
		what: "a signal name (a C identifier of at most 128 characters)",
		expr: regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`),
	}
	unitPattern = pattern{
		what: "a unit of 1 to 32 printable characters",
		expr: regexp.MustCompile(`^[\p{L}\p{M}\p{N}\p{P}\p{S} ]{1,32}$`),
	}
	ratePattern = pattern{
		what: "a rate with its unit, such as 10Hz, 0.1Hz, 10s or 500ms (units: Hz, kHz, us, ms, s, min, h)",
		expr: regexp.MustCompile(`^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?(Hz|kHz|us|ms|s|min|h)$`),
	}
	// durationPattern is ISO 8601-1, 5.5.2, without years and months, and with weeks beside the other units (ISO 8601-2).
	// Only seconds may have a fraction.
	durationPattern = pattern{
		what:   "an ISO 8601 duration of weeks, days, hours, minutes and seconds, such as P30D, P2W or P1DT12H",
		expr:   regexp.MustCompile(`^P([0-9]{1,7}W)?([0-9]{1,7}D)?(T([0-9]{1,7}H)?([0-9]{1,7}M)?([0-9]{1,7}(\.[0-9]{1,9})?S)?)?$`),
		refuse: regexp.MustCompile(`^P$|T$`),
	}
)

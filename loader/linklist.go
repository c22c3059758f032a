// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// All lists the interfaces of the namespace, in the kernel's order.
func (l *Links) All() ([]Link, error) {
	data, err := encodeRequest(ifInfo{}, nil)
	if err != nil {
		return nil, err
	}
	replies, err := l.c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   data,
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]Link, 0, len(replies))
	for _, r := range replies {
		link, err := parseLink(r)
		if err != nil {
			return nil, err
		}
		links = append(links, link)
	}
	return links, nil
}

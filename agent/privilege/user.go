// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/user"
	"slices"
	"strconv"
)

// ErrNoUser says that there is no user of a name.
var ErrNoUser = errors.New("no such user")

// User is whom a process may become.
type User struct {
	Name     string // "" where the user database has none
	UID, GID uint32
	Groups   []uint32 // supplementary, ascending
}

// Lookup finds a user by name or number. A number that the user database does not know stands for itself, with the group of the
// same number and no others; a name that it does not know is ErrNoUser. A system without a user database knows nobody.
func Lookup(name string) (*User, error) {
	number, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil
	if numeric && number == math.MaxUint32 { // (uid_t)-1 means "no change" to setresuid(2)
		return nil, fmt.Errorf("find user %s: %w", name, ErrNoUser)
	}
	find := user.Lookup
	if numeric {
		find = user.LookupId
	}
	entry, err := find(name)
	var unknownName user.UnknownUserError
	var unknownID user.UnknownUserIdError
	switch {
	case errors.As(err, &unknownID), numeric && errors.Is(err, fs.ErrNotExist):
		return &User{UID: uint32(number), GID: uint32(number)}, nil
	case errors.As(err, &unknownName), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("find user %q: %w: run `useradd --system --no-create-home --shell /usr/sbin/nologin %s`", name, ErrNoUser, name)
	case err != nil:
		return nil, fmt.Errorf("find user %s: %w", name, err)
	}
	u := &User{Name: entry.Username}
	groups, err := entry.GroupIds()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find groups of user %s: %w", name, err)
	}
	if u.UID, err = parseID(entry.Uid); err != nil {
		return nil, fmt.Errorf("read number of user %s: %w", name, err)
	}
	if u.GID, err = parseID(entry.Gid); err != nil {
		return nil, fmt.Errorf("read group of user %s: %w", name, err)
	}
	for _, g := range groups {
		id, err := parseID(g)
		if err != nil {
			return nil, fmt.Errorf("read groups of user %s: %w", name, err)
		}
		u.Join(id)
	}
	return u, nil
}

// Join adds a supplementary group.
func (u *User) Join(gid uint32) {
	if i, found := slices.BinarySearch(u.Groups, gid); !found {
		u.Groups = slices.Insert(u.Groups, i, gid)
	}
}

// String returns the name, or the number where there is none.
func (u *User) String() string {
	if u.Name != "" {
		return u.Name
	}
	return strconv.FormatUint(uint64(u.UID), 10)
}

func parseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	return uint32(id), err
}

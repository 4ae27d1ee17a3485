package main

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/pkg/xattr"
)

// attributesName is the extended attribute in which the file backend keeps what an object is besides its bytes.
const attributesName = "user.metadata"

// draft matches the name of a file that was still being written when the emulator was killed.
var draft = regexp.MustCompile(`^\..+[0-9]+$`)

// attributes are what the file backend notes of an object, as far as an object always has them.
type attributes struct {
	StorageClass string
	ContentType  string
	Crc32c       string
	Md5Hash      string
	Etag         string
	Created      string
	Updated      string
	Generation   int64
}

// repair removes the drafts below root and completes the objects whose attributes were not written; it returns how
// many those were.
//
// The bytes of such an object are whole, and its precondition held: the write took place, and nobody was told.
func repair(root string) (int, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return 0, err
	}
	if err := hasAttributes(root); err != nil {
		return 0, err
	}
	completed := 0
	buckets, err := os.ReadDir(root)
	if err != nil {
		return 0, err
	}
	for _, bucket := range buckets {
		if !bucket.IsDir() {
			continue
		}
		err := filepath.WalkDir(filepath.Join(root, bucket.Name()), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			if _, err := xattr.Get(path, attributesName); !errors.Is(err, xattr.ENOATTR) {
				return err
			}
			if draft.MatchString(entry.Name()) {
				return os.Remove(path)
			}
			completed++
			return complete(path)
		})
		if err != nil {
			return completed, err
		}
	}
	return completed, nil
}

// hasAttributes returns an error if the file system of root keeps no extended attributes.
func hasAttributes(root string) error {
	probe, err := os.CreateTemp(root, ".probe")
	if err != nil {
		return err
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	if err := xattr.FSet(probe, attributesName, []byte("{}")); err != nil {
		return errors.New("its file system keeps no extended attributes; use a folder on ext4, xfs or btrfs")
	}
	return nil
}

func complete(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	now := time.Now()
	// Google's sums are of the bytes in network order.
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	hash := md5.Sum(data)
	encoded, err := json.Marshal(attributes{
		StorageClass: "STANDARD",
		ContentType:  "application/octet-stream",
		Crc32c:       base64.StdEncoding.EncodeToString(sum),
		Md5Hash:      base64.StdEncoding.EncodeToString(hash[:]),
		Etag:         base64.StdEncoding.EncodeToString(hash[:]),
		Created:      now.UTC().Format(time.RFC3339Nano),
		Updated:      now.UTC().Format(time.RFC3339Nano),
		Generation:   now.UnixMicro(),
	})
	if err != nil {
		return err
	}
	return xattr.Set(path, attributesName, encoded)
}

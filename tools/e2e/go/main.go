// Command e2e drives an S3 server with minio-go v7, the SDK under warp and mc.
//
// Over plain http this SDK signs every part of a body (STREAMING-AWS4-HMAC-SHA256-PAYLOAD), so a server
// that passes here has decoded aws-chunked bodies and their signatures. It prints one line a check and
// ends with a non-zero code at the first failure. Its server is told by E2E_ENDPOINT (host:port),
// E2E_ACCESS_KEY and E2E_SECRET_KEY; E2E_SECURE=true is https.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

const mib = 1 << 20

type run struct {
	context context.Context
	client  *minio.Client
	trailer *minio.Client // sends checksums in signed trailing headers
	core    minio.Core
	bucket  string
}

func main() {
	keys := credentials.NewStaticV4(os.Getenv("E2E_ACCESS_KEY"), os.Getenv("E2E_SECRET_KEY"), "")
	secure := os.Getenv("E2E_SECURE") == "true"
	client, err := minio.New(os.Getenv("E2E_ENDPOINT"), &minio.Options{Creds: keys, Secure: secure})
	if err != nil {
		fail("client", err)
	}
	trailer, err := minio.New(os.Getenv("E2E_ENDPOINT"), &minio.Options{Creds: keys, Secure: secure, TrailingHeaders: true})
	if err != nil {
		fail("client with trailing headers", err)
	}
	limit, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r := run{limit, client, trailer, minio.Core{Client: client}, fmt.Sprintf("minio-go-%d", time.Now().UnixNano())}
	for _, check := range []struct {
		name string
		do   func(run) error
	}{
		{"buckets are made and found", run.buckets},
		{"streamed signed bodies of every size", run.sizes},
		{"bodies with trailing checksums", run.trailers},
		{"a body of unknown length", run.unknownLength},
		{"multipart by the SDK", run.multipart},
		{"multipart by hand", run.multipartByHand},
		{"ranges", run.ranges},
		{"conditions", run.conditions},
		{"listing with odd keys", run.listing},
		{"copies", run.copies},
		{"presigned URLs", run.presigned},
		{"errors", run.errors},
		{"encryption at rest", run.encryption},
		{"removal of everything", run.removal},
	} {
		if err := check.do(r); err != nil {
			fail(check.name, err)
		}
		fmt.Println("ok", check.name)
	}
}

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "FAILED %s: %v\n", what, err)
	os.Exit(1)
}

func (r run) buckets() error {
	if err := r.client.MakeBucket(r.context, r.bucket, minio.MakeBucketOptions{}); err != nil {
		return err
	}
	found, err := r.client.BucketExists(r.context, r.bucket)
	if err != nil || !found {
		return fmt.Errorf("exists %v: %w", found, err)
	}
	if found, err = r.client.BucketExists(r.context, r.bucket+"-not"); err != nil || found {
		return fmt.Errorf("a bucket that is not: %v, %w", found, err)
	}
	location, err := r.client.GetBucketLocation(r.context, r.bucket)
	if err != nil || location != "us-east-1" {
		return fmt.Errorf("location %q: %w", location, err)
	}
	all, err := r.client.ListBuckets(r.context)
	if err != nil || !slices.ContainsFunc(all, func(b minio.BucketInfo) bool { return b.Name == r.bucket }) {
		return fmt.Errorf("not among %d buckets: %w", len(all), err)
	}
	return nil
}

func (r run) sizes() error {
	for _, size := range []int{0, 1, 4096, 65471, 65472, 65536, 65537, 1*mib + 1, 5 * mib} {
		body := noise(size)
		put := minio.PutObjectOptions{
			ContentType:  "text/x",
			UserMetadata: map[string]string{"Key": "value"},
		}
		name := fmt.Sprintf("sizes/%d", size)
		if _, err := r.client.PutObject(r.context, r.bucket, name, bytes.NewReader(body), int64(size), put); err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
		if err := r.holds(name, body); err != nil {
			return err
		}
		info, err := r.client.StatObject(r.context, r.bucket, name, minio.StatObjectOptions{})
		if err != nil {
			return err
		}
		if info.Size != int64(size) || info.ContentType != "text/x" || info.UserMetadata["Key"] != "value" {
			return fmt.Errorf("stat of %d bytes: %+v", size, info)
		}
	}
	return nil
}

// In one piece and in parts; this SDK repeats at the end of an upload how it was begun.
func (r run) encryption() error {
	kinds := []encrypt.ServerSide{encrypt.NewSSE()}
	if os.Getenv("E2E_SECURE") == "true" {
		key, err := encrypt.NewSSEC(noise(32))
		if err != nil {
			return err
		}
		kinds = append(kinds, key) // the SDK sends no key by http
	}
	for _, kind := range kinds {
		for _, size := range []int{1000, 11*mib + 1} {
			body := noise(size)
			put := minio.PutObjectOptions{ServerSideEncryption: kind, PartSize: 5 * mib}
			if _, err := r.client.PutObject(r.context, r.bucket, "sealed", bytes.NewReader(body), int64(size), put); err != nil {
				return fmt.Errorf("%s, %d bytes: %w", kind.Type(), size, err)
			}
			get := minio.GetObjectOptions{}
			if kind.Type() == encrypt.SSEC {
				get.ServerSideEncryption = kind
			}
			object, err := r.client.GetObject(r.context, r.bucket, "sealed", get)
			if err != nil {
				return err
			}
			found, err := io.ReadAll(object)
			if err != nil || !bytes.Equal(found, body) {
				return fmt.Errorf("%s: %d of %d bytes: %w", kind.Type(), len(found), size, err)
			}
		}
	}
	return nil
}

func (r run) trailers() error {
	body := noise(300_000)
	for _, kind := range []minio.ChecksumType{
		minio.ChecksumCRC32C, minio.ChecksumCRC32, minio.ChecksumSHA1, minio.ChecksumSHA256, minio.ChecksumCRC64NVME,
	} {
		name := "trailer/" + kind.String()
		put := minio.PutObjectOptions{Checksum: kind}
		if _, err := r.trailer.PutObject(r.context, r.bucket, name, bytes.NewReader(body), int64(len(body)), put); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if err := r.holds(name, body); err != nil {
			return err
		}
		info, err := r.client.StatObject(r.context, r.bucket, name, minio.StatObjectOptions{Checksum: true})
		if err != nil {
			return err
		}
		sums := []string{
			info.ChecksumCRC32C, info.ChecksumCRC32, info.ChecksumSHA1, info.ChecksumSHA256, info.ChecksumCRC64NVME,
		}
		if strings.Join(sums, "") == "" {
			return fmt.Errorf("%s: no checksum came back", kind)
		}
	}
	return nil
}

func (r run) unknownLength() error {
	body := noise(7 * mib)
	put := minio.PutObjectOptions{PartSize: 5 * mib}
	if _, err := r.client.PutObject(r.context, r.bucket, "unknown", io.MultiReader(bytes.NewReader(body)), -1, put); err != nil {
		return err
	}
	return r.holds("unknown", body)
}

func (r run) multipart() error {
	body := noise(23*mib + 1)
	put := minio.PutObjectOptions{PartSize: 5 * mib, NumThreads: 4}
	info, err := r.client.PutObject(r.context, r.bucket, "multipart", bytes.NewReader(body), int64(len(body)), put)
	if err != nil {
		return err
	}
	if !strings.HasSuffix(info.ETag, "-5") {
		return fmt.Errorf("etag %s", info.ETag)
	}
	return r.holds("multipart", body)
}

func (r run) multipartByHand() error {
	one, two := noise(5*mib), noise(100)
	id, err := r.core.NewMultipartUpload(r.context, r.bucket, "by hand", minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	var parts []minio.CompletePart
	for n, body := range [][]byte{one, two} {
		part, err := r.core.PutObjectPart(
			r.context, r.bucket, "by hand", id, n+1, bytes.NewReader(body), int64(len(body)), minio.PutObjectPartOptions{},
		)
		if err != nil {
			return err
		}
		parts = append(parts, minio.CompletePart{PartNumber: n + 1, ETag: part.ETag})
	}
	listed, err := r.core.ListObjectParts(r.context, r.bucket, "by hand", id, 0, 100)
	if err != nil || len(listed.ObjectParts) != 2 {
		return fmt.Errorf("%d parts: %w", len(listed.ObjectParts), err)
	}
	if _, err := r.core.CompleteMultipartUpload(r.context, r.bucket, "by hand", id, parts, minio.PutObjectOptions{}); err != nil {
		return err
	}
	if id, err = r.core.NewMultipartUpload(r.context, r.bucket, "aborted", minio.PutObjectOptions{}); err != nil {
		return err
	}
	if err := r.core.AbortMultipartUpload(r.context, r.bucket, "aborted", id); err != nil {
		return err
	}
	return r.holds("by hand", append(one, two...))
}

func (r run) ranges() error {
	body := noise(200_000)
	if err := r.put("ranges", body); err != nil {
		return err
	}
	for _, ends := range [][2]int64{{0, 0}, {1, 65472}, {65471, 65473}, {199_999, 199_999}, {100, 0}} {
		var get minio.GetObjectOptions
		if err := get.SetRange(ends[0], ends[1]); err != nil {
			return err
		}
		got, err := r.read("ranges", get)
		if err != nil {
			return err
		}
		past := ends[1] + 1
		if ends[0] > ends[1] {
			past = int64(len(body))
		}
		if !bytes.Equal(got, body[ends[0]:past]) {
			return fmt.Errorf("%v: %d bytes that differ", ends, len(got))
		}
	}
	object, err := r.client.GetObject(r.context, r.bucket, "ranges", minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer object.Close()
	piece := make([]byte, 1000)
	if _, err := object.ReadAt(piece, 70_000); err != nil || !bytes.Equal(piece, body[70_000:71_000]) {
		return fmt.Errorf("ReadAt: %w", err)
	}
	return nil
}

func (r run) conditions() error {
	if err := r.put("conditions", []byte("x")); err != nil {
		return err
	}
	info, err := r.client.StatObject(r.context, r.bucket, "conditions", minio.StatObjectOptions{})
	if err != nil {
		return err
	}
	var get minio.GetObjectOptions
	if err := get.SetMatchETag("00000000000000000000000000000000"); err != nil {
		return err
	}
	if _, err := r.read("conditions", get); minio.ToErrorResponse(err).Code != "PreconditionFailed" {
		return fmt.Errorf("a wrong etag: %w", err)
	}
	get = minio.GetObjectOptions{}
	if err := get.SetMatchETag(info.ETag); err != nil {
		return err
	}
	_, err = r.read("conditions", get)
	return err
}

func (r run) listing() error {
	names := []string{
		"list/ space", "list/(parens)", "list/+plus", "list/%25", "list/dir/one", "list/dir/two",
		"list/q?a=b#c", "list/\u00e9\u4e2d", "list/\U0001f600", "list/" + strings.Repeat("k", 200),
	}
	slices.Sort(names)
	for _, name := range names {
		if err := r.put(name, []byte(name)); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if err := r.holds(name, []byte(name)); err != nil {
			return err
		}
	}
	for _, v1 := range []bool{false, true} {
		var found []string
		list := minio.ListObjectsOptions{Prefix: "list/", Recursive: true, UseV1: v1, MaxKeys: 3}
		for object := range r.client.ListObjects(r.context, r.bucket, list) {
			if object.Err != nil {
				return object.Err
			}
			found = append(found, object.Key)
		}
		if !slices.Equal(found, names) {
			return fmt.Errorf("v1 %v: %q", v1, found)
		}
	}
	count := 0
	for object := range r.client.ListObjects(r.context, r.bucket, minio.ListObjectsOptions{Prefix: "list/"}) {
		if object.Err != nil {
			return object.Err
		}
		count++
	}
	if count != len(names)-1 {
		return fmt.Errorf("%d entries with a delimiter", count)
	}
	return nil
}

func (r run) copies() error {
	body := noise(2 * mib)
	if err := r.put("copy source+", body); err != nil {
		return err
	}
	source := minio.CopySrcOptions{Bucket: r.bucket, Object: "copy source+"}
	if _, err := r.client.CopyObject(r.context, minio.CopyDestOptions{Bucket: r.bucket, Object: "copied"}, source); err != nil {
		return err
	}
	if err := r.holds("copied", body); err != nil {
		return err
	}
	target := minio.CopyDestOptions{
		Bucket: r.bucket, Object: "copied", ReplaceMetadata: true, UserMetadata: map[string]string{"New": "1"},
	}
	if _, err := r.client.CopyObject(r.context, target, source); err != nil {
		return err
	}
	info, err := r.client.StatObject(r.context, r.bucket, "copied", minio.StatObjectOptions{})
	if err != nil || info.UserMetadata["New"] != "1" {
		return fmt.Errorf("metadata %v: %w", info.UserMetadata, err)
	}
	return nil
}

func (r run) presigned() error {
	put, err := r.client.PresignedPutObject(r.context, r.bucket, "pre signed+", time.Minute)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(r.context, http.MethodPut, put.String(), strings.NewReader("presigned"))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT answered %s", answer.Status)
	}
	get, err := r.client.PresignedGetObject(r.context, r.bucket, "pre signed+", time.Minute, nil)
	if err != nil {
		return err
	}
	if answer, err = http.Get(get.String()); err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || string(body) != "presigned" {
		return fmt.Errorf("GET %s %q: %w", answer.Status, body, err)
	}
	return nil
}

func (r run) errors() error {
	_, err := r.client.StatObject(r.context, r.bucket, "missing", minio.StatObjectOptions{})
	if code := minio.ToErrorResponse(err).Code; code != "NoSuchKey" {
		return fmt.Errorf("a missing object is %q", code)
	}
	_, err = r.client.StatObject(r.context, "no-such-bucket-of-ours", "missing", minio.StatObjectOptions{})
	if code := minio.ToErrorResponse(err).Code; code != "NoSuchBucket" && code != "NoSuchKey" {
		return fmt.Errorf("a missing bucket is %q", code)
	}
	err = r.client.MakeBucket(r.context, r.bucket, minio.MakeBucketOptions{})
	if code := minio.ToErrorResponse(err).Code; code != "BucketAlreadyOwnedByYou" {
		return fmt.Errorf("a bucket made again is %q", code)
	}
	if err := r.client.RemoveBucket(r.context, r.bucket); minio.ToErrorResponse(err).Code != "BucketNotEmpty" {
		return fmt.Errorf("removing a bucket with objects: %w", err)
	}
	return nil
}

func (r run) removal() error {
	if err := r.client.RemoveObject(r.context, r.bucket, "unknown", minio.RemoveObjectOptions{}); err != nil {
		return err
	}
	all := r.client.ListObjects(r.context, r.bucket, minio.ListObjectsOptions{Recursive: true})
	for failure := range r.client.RemoveObjects(r.context, r.bucket, all, minio.RemoveObjectsOptions{}) {
		return fmt.Errorf("%s: %w", failure.ObjectName, failure.Err)
	}
	for object := range r.client.ListObjects(r.context, r.bucket, minio.ListObjectsOptions{Recursive: true}) {
		return fmt.Errorf("still there: %s: %w", object.Key, object.Err)
	}
	return r.client.RemoveBucket(r.context, r.bucket)
}

func (r run) put(name string, body []byte) error {
	_, err := r.client.PutObject(r.context, r.bucket, name, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	return err
}

func (r run) read(name string, get minio.GetObjectOptions) ([]byte, error) {
	object, err := r.client.GetObject(r.context, r.bucket, name, get)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	return io.ReadAll(object)
}

func (r run) holds(name string, body []byte) error {
	got, err := r.read(name, minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if !bytes.Equal(got, body) {
		return errors.New("the bytes of " + name + " differ")
	}
	return nil
}

func noise(size int) []byte {
	body := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(body)
	return body
}

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// multipart is a large object on its way by the XML interface; parts are numbered from 1.
type multipart struct {
	contentType string
	parts       map[int][]byte
}

// listByXML answers a listing that begins behind a name, which the emulator inside takes for one from the start: to a
// Delta library that is a table with versions it did not ask for. It says whether the request was one.
func (d *door) listByXML(answer http.ResponseWriter, request *http.Request) bool {
	start := request.URL.Query().Get("start-after")
	if request.Method != http.MethodGet || start == "" || !request.URL.Query().Has("list-type") {
		return false
	}
	done := httptest.NewRecorder()
	d.inside.ServeHTTP(done, request)
	var found fakestorage.ListBucketResult
	body := done.Body.Bytes()
	if done.Code == http.StatusOK && xml.Unmarshal(body, &found) == nil {
		found.Contents = slices.DeleteFunc(found.Contents, func(one fakestorage.Contents) bool { return one.Key <= start })
		found.KeyCount = len(found.Contents)
		if behind, err := xml.Marshal(found); err == nil {
			body = append([]byte(xml.Header), behind...)
		}
	}
	answer.Header().Set("Content-Type", "application/xml")
	answer.WriteHeader(done.Code)
	_, _ = answer.Write(body)
	return true
}

// writeByXML does what a request asks for that writes by the XML interface, as Delta libraries do and as the emulator
// inside takes from nobody; it says whether the request was one.
func (d *door) writeByXML(answer http.ResponseWriter, request *http.Request) bool {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(request.URL.Path, "/"), "/")
	query := request.URL.Query()
	upload := query.Get("uploadId")
	switch {
	case name == "" || query.Has("uploadType") || query.Has("X-Goog-Algorithm"):
		return false
	case request.Header.Get("x-goog-copy-source") != "":
		return false
	case request.Method == http.MethodPost && query.Has("uploads"):
		d.begin(answer, request)
	case request.Method == http.MethodPut && upload != "":
		d.takePart(answer, request, upload)
	case request.Method == http.MethodPost && upload != "":
		d.finish(answer, request, bucket, name, upload)
	case request.Method == http.MethodDelete && upload != "":
		d.uploads.Delete(upload)
		answer.WriteHeader(http.StatusNoContent)
	case request.Method == http.MethodPut:
		content, err := io.ReadAll(request.Body)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return true
		}
		if d.store(answer, request, bucket, name, request.Header.Get("Content-Type"), content) != "" {
			answer.WriteHeader(http.StatusOK)
		}
	default:
		return false
	}
	return true
}

func (d *door) begin(answer http.ResponseWriter, request *http.Request) {
	upload := rand.Text()
	d.uploads.Store(upload, &multipart{contentType: request.Header.Get("Content-Type"), parts: map[int][]byte{}})
	answer.Header().Set("Content-Type", "application/xml")
	_, _ = fmt.Fprintf(answer, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", upload)
}

func (d *door) takePart(answer http.ResponseWriter, request *http.Request, upload string) {
	number, wrong := strconv.Atoi(request.URL.Query().Get("partNumber"))
	content, cut := io.ReadAll(request.Body)
	found, known := d.uploads.Load(upload)
	switch {
	case wrong != nil || cut != nil:
		http.Error(answer, "partNumber is no number, or the part ended too early", http.StatusBadRequest)
	case !known:
		http.Error(answer, "there is no such upload", http.StatusNotFound)
	default:
		d.parts.Lock()
		found.(*multipart).parts[number] = content
		d.parts.Unlock()
		answer.Header().Set("ETag", fmt.Sprintf(`"%s-%d"`, upload, number))
	}
}

func (d *door) finish(answer http.ResponseWriter, request *http.Request, bucket, name, upload string) {
	found, known := d.uploads.Load(upload)
	if !known {
		http.Error(answer, "there is no such upload", http.StatusNotFound)
		return
	}
	var listed struct {
		Part []struct{ PartNumber int }
	}
	if err := xml.NewDecoder(request.Body).Decode(&listed); err != nil {
		http.Error(answer, "the list of parts cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	var content bytes.Buffer
	d.parts.Lock()
	for _, one := range listed.Part {
		content.Write(found.(*multipart).parts[one.PartNumber])
	}
	d.parts.Unlock()
	tag := d.store(answer, request, bucket, name, found.(*multipart).contentType, content.Bytes())
	if tag == "" {
		return
	}
	d.uploads.Delete(upload)
	answer.Header().Set("Content-Type", "application/xml")
	_, _ = fmt.Fprintf(answer, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>", tag)
}

// store writes an object by the JSON interface and returns its tag, which stands in the answer's head with the
// generation. What is refused is answered in full, and the tag is empty.
func (d *door) store(answer http.ResponseWriter, request *http.Request, bucket, name, kind string, content []byte) string {
	query := url.Values{"uploadType": {"media"}, "name": {name}}
	if generation := request.Header.Get("x-goog-if-generation-match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	target := "/upload/storage/v1/b/" + url.PathEscape(bucket) + "/o?" + query.Encode()
	inner := httptest.NewRequestWithContext(request.Context(), http.MethodPost, target, bytes.NewReader(content))
	inner.Header.Set("Content-Type", kind)
	done := httptest.NewRecorder()
	d.writes.RLock()
	d.inside.ServeHTTP(done, inner)
	d.writes.RUnlock()
	var object struct{ Etag, Generation string }
	if done.Code != http.StatusOK || json.Unmarshal(done.Body.Bytes(), &object) != nil {
		answer.WriteHeader(max(done.Code, http.StatusBadRequest))
		_, _ = answer.Write(done.Body.Bytes())
		return ""
	}
	tag := `"` + strings.Trim(object.Etag, `"`) + `"`
	answer.Header().Set("ETag", tag)
	answer.Header().Set("x-goog-generation", object.Generation)
	return tag
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
)

// publicHost is the name under which the emulator finds its XML interface; no caller needs to know it.
const publicHost = "emulator"

// byAnyName begin the paths that the emulator serves whatever its host is called.
var byAnyName = []string{"/storage/v1", "/upload/", "/download/", "/batch/", "/_internal/"}

// door is what every request comes through.
type door struct {
	inside http.Handler
	// Held alone by a delete with a precondition, shared by everything else that writes.
	writes sync.RWMutex
	// Large objects on their way, by the id of their upload; parts guards what is in them.
	uploads sync.Map
	parts   sync.Mutex
}

func (d *door) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	if !servedByAnyName(request.URL.Path) {
		request.Host = publicHost
		if d.listByXML(answer, request) || d.writeByXML(answer, request) {
			return
		}
	}
	switch {
	case request.Method == http.MethodDelete && request.URL.Query().Has("ifGenerationMatch"):
		d.writes.Lock()
		defer d.writes.Unlock()
		if !d.holds(request) {
			refuse(answer)
			return
		}
	case request.Method != http.MethodGet && request.Method != http.MethodHead:
		d.writes.RLock()
		defer d.writes.RUnlock()
	}
	d.inside.ServeHTTP(answer, request)
}

// holds says whether the object that a request names has the generation that it asks for. One that is not there is
// for the emulator to answer.
func (d *door) holds(request *http.Request) bool {
	look := request.Clone(request.Context())
	look.Method = http.MethodGet
	look.URL = &url.URL{Path: request.URL.Path, RawPath: request.URL.RawPath}
	look.RequestURI = look.URL.RequestURI()
	found := httptest.NewRecorder()
	d.inside.ServeHTTP(found, look)
	if found.Code == http.StatusNotFound {
		return true
	}
	var object struct{ Generation string }
	if found.Code != http.StatusOK || json.Unmarshal(found.Body.Bytes(), &object) != nil {
		return false
	}
	return object.Generation == request.URL.Query().Get("ifGenerationMatch")
}

func servedByAnyName(path string) bool {
	for _, start := range byAnyName {
		if strings.HasPrefix(path, start) {
			return true
		}
	}
	return false
}

func refuse(answer http.ResponseWriter) {
	const code = http.StatusPreconditionFailed
	answer.Header().Set("Content-Type", "application/json")
	answer.WriteHeader(code)
	_, _ = fmt.Fprintf(answer, `{"error": {"code": %d, "message": "Precondition Failed", "errors": `+
		`[{"domain": "global", "reason": "conditionNotMet", "message": "Precondition Failed"}]}}`, code)
}

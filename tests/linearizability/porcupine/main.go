// Reads histories of the commit API from standard input, one JSON array of operations per line, and prints
// for each line "true" if Porcupine finds it linearizable, "false" if not, "unknown" if it found neither in time.
//
// The model is that of checker.py, written a second time: a register with versions, where appends that share a
// version stand next to each other in the order and overlap pairwise.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const closed = int64(-1) << 62

// limit is how long one history may take; one with many unknown outcomes can take for ever.
const limit = 60 * time.Second

type operation struct {
	Table       string  `json:"table"`
	Kind        string  `json:"kind"`
	Call        int64   `json:"call"`
	Ret         int64   `json:"ret"`
	Key         string  `json:"key"`
	Append      bool    `json:"append"`
	ReadVersion int64   `json:"read_version"`
	Version     *int64  `json:"version"`
	Refused     *string `json:"refused"`
	Identity    string  `json:"identity"`
}

type owner struct {
	identity string
	version  int64
}

// table is the state; keys holds "key identity version" in ascending order, so that states compare by ==.
type table struct {
	latest      int64
	sharedUntil int64
	keys        string
}

// owner returns who owns a key, if anybody does.
func (t table) owner(key string) (owner, bool) {
	start := 0
	if !strings.HasPrefix(t.keys, key+" ") {
		start = strings.Index(t.keys, "\n"+key+" ") + 1
		if start == 0 {
			return owner{}, false
		}
	}
	line, _, _ := strings.Cut(t.keys[start:], "\n")
	fields := strings.Fields(line[len(key):])
	version, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return owner{fields[0], version}, true
}

func (t table) committed(op operation, version, sharedUntil int64) table {
	next := table{latest: version, sharedUntil: sharedUntil, keys: t.keys}
	if op.Kind == "commit" {
		lines := []string{}
		if t.keys != "" {
			lines = strings.Split(t.keys, "\n")
		}
		lines = append(lines, fmt.Sprintf("%s %s %d", op.Key, op.Identity, version))
		sort.Strings(lines)
		next.keys = strings.Join(lines, "\n")
	}
	return next
}

func step(state, input, _ interface{}) []interface{} {
	t := state.(table)
	op := input.(operation)
	unknown := op.Kind == "commit" && op.Version == nil && op.Refused == nil
	after := []interface{}{}
	if unknown {
		// It never happens: then it stands at the end, where it disturbs nothing.
		after = append(after, t)
	}
	still := table{t.latest, closed, t.keys}
	owned, known := t.owner(op.Key)
	ours := known && owned.identity == op.Identity
	switch {
	case op.Kind == "status":
		if *op.Version == t.latest {
			after = append(after, still)
		}
		return after
	case op.Kind == "explain":
		if known == (op.Version != nil) && (!known || owned.version == *op.Version) {
			after = append(after, still)
		}
		return after
	case op.Refused != nil:
		right := false
		switch *op.Refused {
		case "used":
			right = known && !ours
		case "stale":
			right = !ours && t.latest > op.ReadVersion
		case "future":
			right = !ours && t.latest < op.ReadVersion
		case "not-committed":
			right = !ours
		case "none":
			right = true
		}
		if right {
			after = append(after, still)
		}
		return after
	case op.Kind == "commit" && known:
		if ours && op.Version != nil && *op.Version == owned.version {
			after = append(after, still)
		}
		return after
	}
	if op.Append && op.Call <= t.sharedUntil && (op.Version == nil || *op.Version == t.latest) {
		after = append(after, t.committed(op, t.latest, min(t.sharedUntil, op.Ret)))
	}
	if op.Append || op.Kind == "foreign" || op.ReadVersion == t.latest {
		if op.Version == nil || *op.Version == t.latest+1 {
			sharedUntil := closed
			if op.Append {
				sharedUntil = op.Ret
			}
			after = append(after, t.committed(op, t.latest+1, sharedUntil))
		}
	}
	return after
}

var model = porcupine.NondeterministicModel{
	Init: func() []interface{} { return []interface{}{table{sharedUntil: closed}} },
	Step: step,
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		tables := map[string][]porcupine.Operation{}
		for _, op := range history {
			name := op.Input.(operation).Table
			tables[name] = append(tables[name], op)
		}
		parts := [][]porcupine.Operation{}
		for _, part := range tables {
			parts = append(parts, part)
		}
		return parts
	},
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	checked := model.ToModel()
	for lines.Scan() {
		var operations []operation
		if err := json.Unmarshal(lines.Bytes(), &operations); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		history := []porcupine.Operation{}
		for client, op := range operations {
			history = append(history, porcupine.Operation{ClientId: client, Input: op, Call: op.Call, Return: op.Ret})
		}
		switch porcupine.CheckOperationsTimeout(checked, history, limit) {
		case porcupine.Ok:
			fmt.Println("true")
		case porcupine.Illegal:
			fmt.Println("false")
		default:
			fmt.Println("unknown")
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

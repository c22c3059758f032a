// SPDX-License-Identifier: Apache-2.0

package encode

import (
	"fmt"
	"strings"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/kind"
)

// OCSFVersion is the version of the Open Cybersecurity Schema Framework that OCSF writes.
const OCSFVersion = "1.3.0"

// Numbers of the class Detection Finding and its activities.
const (
	ocsfCategory = 2    // Findings
	ocsfClass    = 2004 // Detection Finding
	ocsfCreate   = 1
	ocsfUpdate   = 2
	ocsfClose    = 3
	ocsfNew      = 1 // status
	ocsfResolved = 4
	ocsfRule     = 1 // analytic type
)

type (
	ocsfFinding struct {
		ActivityID   int            `json:"activity_id"`
		ActivityName string         `json:"activity_name"`
		CategoryUID  int            `json:"category_uid"`
		CategoryName string         `json:"category_name"`
		ClassUID     int            `json:"class_uid"`
		ClassName    string         `json:"class_name"`
		TypeUID      int            `json:"type_uid"`
		TypeName     string         `json:"type_name"`
		Time         int64          `json:"time"`
		StartTime    int64          `json:"start_time"`
		EndTime      int64          `json:"end_time"`
		Count        uint64         `json:"count"`
		SeverityID   int            `json:"severity_id"`
		Severity     string         `json:"severity"`
		StatusID     int            `json:"status_id"`
		Status       string         `json:"status"`
		Message      string         `json:"message"`
		Metadata     ocsfMetadata   `json:"metadata"`
		FindingInfo  ocsfInfo       `json:"finding_info"`
		Resources    []ocsfResource `json:"resources,omitempty"`
		Evidences    []ocsfEvidence `json:"evidences,omitempty"`
		Unmapped     any            `json:"unmapped"`
	}
	ocsfMetadata struct {
		Version   string      `json:"version"`
		EventCode string      `json:"event_code"`
		Product   ocsfProduct `json:"product"`
	}
	ocsfProduct struct {
		Name       string `json:"name"`
		VendorName string `json:"vendor_name"`
	}
	ocsfInfo struct {
		Title         string       `json:"title"`
		UID           string       `json:"uid"`
		Desc          string       `json:"desc"`
		Types         []string     `json:"types"`
		FirstSeenTime int64        `json:"first_seen_time"`
		LastSeenTime  int64        `json:"last_seen_time"`
		Analytic      ocsfAnalytic `json:"analytic"`
	}
	ocsfAnalytic struct {
		Name   string `json:"name"`
		UID    string `json:"uid"`
		TypeID int    `json:"type_id"`
		Type   string `json:"type"`
	}
	ocsfResource struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	ocsfEvidence struct {
		Data map[string]string `json:"data"`
	}
)

// OCSF appends a record as a Detection Finding (class 2004) of the Open Cybersecurity Schema Framework. What the class has no
// attribute for is under unmapped. The BMS Security Fault is one finding that is created, updated and closed.
func OCSF(dst []byte, r *event.Record) []byte {
	f := ocsfFinding{
		CategoryUID: ocsfCategory, CategoryName: "Findings", ClassUID: ocsfClass, ClassName: "Detection Finding",
		ActivityID: ocsfCreate, ActivityName: "Create", StatusID: ocsfNew, Status: "New",
		Time: r.Last.Wall / 1e6, StartTime: r.First.Wall / 1e6, EndTime: r.Last.Wall / 1e6, Count: r.Count,
		SeverityID: int(r.Severity), Severity: ocsfSeverity(r.Severity), Message: message(r),
		Metadata: ocsfMetadata{Version: OCSFVersion, EventCode: r.Kind.String(), Product: ocsfProduct{"cellward", "cellward"}},
		FindingInfo: ocsfInfo{
			Title: r.Kind.Title(), UID: ocsfUID(r), Desc: message(r), Types: []string{r.Kind.Cause().String()},
			FirstSeenTime: r.First.Wall / 1e6, LastSeenTime: r.Last.Wall / 1e6,
			Analytic: ocsfAnalytic{r.Kind.String(), r.Kind.MessageID(), ocsfRule, "Rule"},
		},
	}
	switch r.Kind {
	case kind.FaultWidened, kind.FaultLatched:
		f.ActivityID, f.ActivityName = ocsfUpdate, "Update"
	case kind.FaultCleared:
		f.ActivityID, f.ActivityName, f.StatusID, f.Status = ocsfClose, "Close", ocsfResolved, "Resolved"
	}
	f.TypeUID, f.TypeName = ocsfClass*100+f.ActivityID, f.ClassName+": "+f.ActivityName
	for _, x := range [...]pair{{r.Source, "data source"}, {r.Node, "node"}, {r.Interface, "interface"}} {
		if x.name != "" {
			f.Resources = append(f.Resources, ocsfResource{x.name, x.value})
		}
	}
	if r.Fault != nil {
		f.FindingInfo.Title = event.FaultName
		for _, s := range r.Fault.Sources {
			if s != r.Source {
				f.Resources = append(f.Resources, ocsfResource{s, "data source"})
			}
		}
	}
	if r.Frame != nil {
		f.Evidences = append(f.Evidences, ocsfEvidence{map[string]string{"frame": frame(r.Frame)}})
	}
	unmapped := make(map[string]string)
	for _, p := range pairs(r) {
		unmapped[p.name] = p.value
	}
	f.Unmapped = unmapped
	return appendJSON(dst, f)
}

func ocsfSeverity(s kind.Severity) string {
	name := s.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

// ocsfUID names the finding: the same for all that is reported of one standing fault.
func ocsfUID(r *event.Record) string {
	if r.Fault != nil {
		return fmt.Sprintf("cellward:fault:%s:%s", r.Fault.Cause, strings.Join(r.Fault.Sources, ","))
	}
	return fmt.Sprintf("cellward:%x:%s:%s:%d:%d", r.BootID, r.Kind, r.Subject.Scope, r.Subject.Index, r.First.Boot)
}

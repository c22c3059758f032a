// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/prometheus/client_golang/prometheus"

// family is what all series of a metric have in common. labels are their names, separated by spaces.
type family struct {
	name   string
	help   string
	kind   prometheus.ValueType
	labels string
}

const (
	namespace = "cellward_"
	counter   = prometheus.CounterValue
	gauge     = prometheus.GaugeValue
	// ofStream are the labels of every metric of a stream.
	ofStream = "stream interface node source"
)

// metric is a position in families.
type metric int

const (
	buildInfo metric = iota
	engineInfo
	documentsInfo
	uptime
	// State, TPM, keys.
	stateWrites
	stateWriteFailures
	stateWritten
	tpmErrors
	keyInterval
	keyLimit
	// The shared-memory ring. What a reader has missed only that reader knows.
	ringSlots
	ringPublished
	ringReaders
	ringServed
	ringRefused
	fault
	faultState
	faultChanges
	sourceFault
	// Events since the agent began.
	events
	eventsDelivered
	eventsWaiting
	eventFailures
	// Interfaces.
	filterFrames
	agentFrames
	candidatesUsed
	candidatesSize
	controlUsed
	controlSize
	interfaceUp
	interfaceState
	interfaceAttached
	interfaceReattached
	controllerState
	// Nodes. Key and epoch are those of the newest epoch that is accepted.
	nodeInfo
	nodeHighest
	nodeEpochs
	nodeEpoch
	nodeKeyAge
	// Streams.
	streamInfo
	streamHighest
	streamCeiling
	streamMissing
	streamDeleted
	streamCorrected
	streamShed
	streamRefused
	streamPeriod
	streamCommitted
	streamPublished
	streamLost
	streamAge
)

// families are all metrics of a cellward agent.
func families() []family {
	return []family{
		buildInfo:           {"build_info", "What the running agent was built from; always 1.", gauge, "version commit go arch layout"},
		engineInfo:          {"engine_info", "AEAD engine in use; always 1.", gauge, "engine"},
		documentsInfo:       {"documents_info", "Names of the documents in force; always 1.", gauge, "policy binding"},
		uptime:              {"uptime_seconds", "Time since the agent began.", gauge, ""},
		stateWrites:         {"state_writes_total", "Writes of the state folder that became durable.", counter, ""},
		stateWriteFailures:  {"state_write_failures_total", "Writes of the state folder that failed.", counter, ""},
		stateWritten:        {"state_written", "1 while the last write of the state folder went well, 0 since one has failed.", gauge, ""},
		tpmErrors:           {"tpm_errors_total", "State writes after which the TPM did not retire what it should.", counter, ""},
		keyInterval:         {"key_interval_seconds", "Age at which the policy wants a key replaced.", gauge, ""},
		keyLimit:            {"key_limit_seconds", "Age beyond which no key is accepted.", gauge, ""},
		ringSlots:           {"ring_slots", "Samples that the ring keeps.", gauge, ""},
		ringPublished:       {"ring_published_samples_total", "Samples published in this ring.", counter, ""},
		ringReaders:         {"ring_readers", "Readers that are connected.", gauge, ""},
		ringServed:          {"ring_readers_served_total", "Connections of readers that were given the ring.", counter, ""},
		ringRefused:         {"ring_readers_refused_total", "Connections of readers that were refused.", counter, "reason"},
		fault:               {"fault", "1 while a security fault is raised or latched in the ring's fault word.", gauge, ""},
		faultState:          {"fault_state", "State of the ring's fault word: 1 for the present one.", gauge, "state"},
		faultChanges:        {"fault_changes_total", "Changes of the ring's fault word.", counter, ""},
		sourceFault:         {"source_fault", "1 while a security fault of the source is raised or latched.", gauge, "source"},
		events:              {"events_total", "Security events, by kind.", counter, "kind"},
		eventsDelivered:     {"events_delivered_total", "Security events that a destination has taken.", counter, "destination"},
		eventsWaiting:       {"events_waiting", "Security events that a destination has not taken yet.", gauge, "destination"},
		eventFailures:       {"event_delivery_failures_total", "Attempts to deliver to a destination that failed.", counter, "destination"},
		filterFrames:        {"filter_frames_total", "Frames that the filter has judged, by its verdict.", counter, "interface verdict"},
		agentFrames:         {"agent_frames_total", "Candidates and start records that the agent has judged, by its verdict.", counter, "interface verdict"},
		candidatesUsed:      {"candidate_ring_used_bytes", "Bytes in the candidate ring that the agent has not read.", gauge, "interface"},
		candidatesSize:      {"candidate_ring_size_bytes", "Size of the candidate ring.", gauge, "interface"},
		controlUsed:         {"control_ring_used_bytes", "Bytes in the ring of start records that the agent has not read.", gauge, "interface"},
		controlSize:         {"control_ring_size_bytes", "Size of the ring of start records.", gauge, "interface"},
		interfaceUp:         {"interface_up", "1 while the interface is there and up.", gauge, "interface"},
		interfaceState:      {"interface_state", "State of the interface: 1 for the present one.", gauge, "interface state"},
		interfaceAttached:   {"interface_attached", "1 while the filter is at the interface.", gauge, "interface"},
		interfaceReattached: {"interface_reattached_total", "Times that the filter was attached anew to an interface that was made anew.", counter, "interface"},
		controllerState:     {"can_controller_state", "Error state of the CAN controller: 1 for the present one; all 0 where nothing has told it.", gauge, "interface state"},
		nodeInfo:            {"node_info", "Node and the identifier of its key; always 1.", gauge, "node kid"},
		nodeHighest:         {"node_highest_verified", "Highest counter verified from the node.", gauge, "node"},
		nodeEpochs:          {"node_epochs", "Epochs that are accepted from the node.", gauge, "node"},
		nodeEpoch:           {"node_epoch", "Number of the newest epoch.", gauge, "node"},
		nodeKeyAge:          {"node_key_age_seconds", "Age of the newest epoch's key.", gauge, "node"},
		streamInfo:          {"stream_info", "Stream as the documents have it; always 1.", gauge, ofStream + " id role sensitivity sampling_rate"},
		streamHighest:       {"stream_highest_verified", "Highest counter of the stream that has verified.", gauge, ofStream},
		streamCeiling:       {"stream_ceiling", "Counter above which nothing takes effect before a higher one is durable.", gauge, ofStream},
		streamMissing:       {"stream_missing_samples", "Samples that have not come and may still come.", gauge, ofStream},
		streamDeleted:       {"stream_deleted_samples_total", "Samples that were reported as deleted.", counter, ofStream},
		streamCorrected:     {"stream_deleted_corrected_total", "Samples that came after they were reported as deleted.", counter, ofStream},
		streamShed:          {"stream_shed_frames_total", "Frames of the stream that the filter has shed because the candidate ring was filling.", counter, ofStream},
		streamRefused:       {"stream_refused_frames_total", "Frames of the stream that the filter has refused otherwise, by its verdict.", counter, ofStream + " verdict"},
		streamPeriod:        {"stream_period_seconds", "Period that the documents give the stream.", gauge, ofStream},
		streamCommitted:     {"stream_committed_samples_total", "Samples committed to the replay window.", counter, ofStream},
		streamPublished:     {"stream_published_samples_total", "Samples published in the ring.", counter, ofStream},
		streamLost:          {"stream_lost_samples_total", "Samples that were committed and not published when an agent was killed.", counter, ofStream},
		streamAge:           {"stream_sample_age_seconds", "Age of the newest published sample, or of the agent if it has published none.", gauge, ofStream},
	}
}

// Every series that Holdfast exposes, each named once; metrics/catalogue.cc has names, help texts
// and buckets, and tests/golden/metrics.txt the resulting list.
//
// Each struct registers its area's series when it is made: once per Registry. A process has one
// NetMetrics and SpoolMetrics per role (agent, broker), beside that role's own.
#pragma once

#include "metrics/registry.h"

namespace holdfast::metrics {

struct NetMetrics {
  explicit NetMetrics(Registry& registry);

  Gauge& connections;       // Open now.
  Counter& accepted;        // Connections.
  Family<Counter>& closed;  // By cause.
  Counter& accept_errors;
  Counter& received_frames;
  Counter& sent_frames;
  Counter& received_bytes;
  Counter& sent_bytes;
  CallbackGauge& memory_in_flight_bytes;  // Reserved for frames, see net::MemoryBudget.
  Counter& read_pauses;  // A socket was not read for want of memory or because its peer
                         // does not read its answers.
  CallbackGauge& loop_turn_seconds_max;  // The longest turn of any loop in the last minute or so.
  Counter& slow_loop_turns;              // Turns of more than 50 ms.
  CallbackGauge& mailbox_tasks;          // Waiting, over all loops.
};

struct SpoolMetrics {
  explicit SpoolMetrics(Registry& registry);

  Counter& appended_records;
  Counter& appended_bytes;
  Counter& commits;
  Histogram& commit_bytes;    // Bytes of one group commit.
  Histogram& commit_entries;  // Batches of one group commit.
  Histogram& commit_seconds;  // From taking the first batch to its acknowledgement.
  Histogram& sync_seconds;    // Writing and flushing a commit.
  Gauge& segments;
  Gauge& free_segments;  // Retired or prepared, waiting to be used.
  Gauge& disk_bytes;
  CallbackGauge& room_bytes;  // Until entries are refused; the rest of the newest segment apart.
  Gauge& queue_bytes;         // Waiting for the writer.
  Gauge& queue_operations;
  Family<Counter>& refused;  // Appends, by cause.
  Counter& damaged_frames;
  Counter& damaged_segments;
  Counter& reopens;         // Of an environment after an error.
  Family<Counter>& errors;  // Of the storage below, by cause.
  Counter& recycled_segments;
  Counter& retired_segments;
  Counter& reclaimed_bytes;  // Of disk, by writing segments anew without what is trimmed.
};

struct BrokerMetrics {
  explicit BrokerMetrics(Registry& registry);

  Family<Counter>& requests;  // By api.
  Family<Counter>& errors;    // Error codes answered, by Kafka's name of the code.
  Counter& produced_records;
  Counter& produced_bytes;
  Counter& duplicate_batches;  // Recognised by producer id and sequence.
  Histogram& produce_seconds;
  Counter& fetched_bytes;
  // Of records in answers that have not left, without those that are sent from the disk.
  CallbackGauge& fetched_waiting_bytes;
  Histogram& fetch_seconds;  // Includes the wait that the client asked for.
  Gauge& parked_fetches;     // Long polls waiting for records.
  Gauge& fetch_sessions;
  Gauge& fetch_session_partitions;
  Counter& fetch_session_evictions;
  Gauge& topics;
  Gauge& partitions;
  Gauge& groups;
  Gauge& members;
  Counter& rebalances;
  Counter& committed_offsets;
  Family<Counter>& transactions;  // That have ended, by outcome.
  Family<Counter>& compactions;   // Rounds, by outcome.
  Counter& sorted_segments;
  Counter& login_failures;  // SASL exchanges that were refused.
};

struct AgentMetrics {
  explicit AgentMetrics(Registry& registry);

  Family<Counter>& requests;   // By api, from local clients.
  Family<Counter>& refused;    // Produce batches refused, by cause.
  Histogram& produce_seconds;  // From the request's arrival to its answer.
  Counter& accepted_records;   // Decoded, checked and handed to the spool.
  Counter& accepted_bytes;
  Counter& acknowledged_records;  // On this host's disk.
  Counter& acknowledged_bytes;
  Counter& forwarded_records;  // Confirmed by the tier.
  Counter& forwarded_bytes;
  Counter& duplicate_batches;                   // A client's retry, recognised.
  Family<Counter>& local_transactions;          // By outcome.
  Gauge& local_transaction_bytes;               // In memory, of those that are open.
  Gauge& undelivered_transactions;              // Committed here, and not yet at the tier.
  Family<Counter>& upstream_transactions;       // By outcome.
  Gauge& oldest_undelivered_timestamp_seconds;  // When it was spooled; 0 if nothing waits.
  Gauge& complete_until_timestamp_seconds;      // What was acknowledged before is delivered or
                                                // dropped.
  Histogram& spooled_seconds;                   // From commit to the tier's confirmation.
  Gauge& backlog_records;
  Gauge& backlog_bytes;
  Family<Counter>& full;                 // Batches that found no room, by what became of them.
  Gauge& waiting_for_room;               // Produce requests.
  Gauge& waiting_for_tier;               // Produce requests.
  Histogram& throttle_seconds;           // For which connections over their rate are not read.
  Family<Counter>& dropped_records;      // By cause.
  Family<Counter>& dead_letter_records;  // By cause.
  Gauge& parked_streams;
  Gauge& forward_paused;             // 1: by the schedule.
  Family<Counter>& forward_retries;  // By cause.
  Family<Counter>& forward_errors;   // By Kafka's name of the code, or the kind of failure.
  Histogram& forward_seconds;        // One produce request to the tier.
  Gauge& forward_in_flight_bytes;
  Gauge& upstream_connected;  // 1 while any broker of the tier answers, else 0.
  Gauge& upstream_connections;
  Counter& upstream_connects;        // Attempts.
  Family<Counter>& upstream_errors;  // Lost and failed connections, by cause.
  Gauge& proxied_connections;        // Local clients with a connection of their own to the tier.
  Counter& proxied_requests;
  Counter& local_login_failures;  // SASL of local clients that the agent refused.
  Family<Gauge>& certificate_expiry_timestamp_seconds;  // By the side that shows it.
  Gauge& draining;                                      // 1 from the signal to stop on.
};

// Of the agent, if services leave events in databases of theirs. By the source's name.
struct OutboxMetrics {
  explicit OutboxMetrics(Registry& registry);

  Family<Gauge>& connected;                     // 1 while its rows can be read, else 0.
  Family<Counter>& taken_rows;                  // In the spool, and removed from the source.
  Family<Counter>& quarantined_rows;            // Set aside.
  Family<Counter>& errors;                      // Failed calls of the database.
  Family<Gauge>& oldest_row_timestamp_seconds;  // Of those not taken; 0 if there is none.
  Family<Gauge>& waiting_rows;                  // Not taken yet, of the parts that are owned.
  Family<Gauge>& foreign_rows;                  // In parts that another agent owns.
  Family<Gauge>& quarantine_rows;               // That stand in the quarantine now.
  Family<Gauge>& partition_lag_seconds;         // By source/part.
  Family<Histogram>& read_seconds;
  Family<Histogram>& remove_seconds;
};

// Of the agent, if it looks for spools whose agents are gone.
struct OrphanMetrics {
  explicit OrphanMetrics(Registry& registry);

  Family<Gauge>& spools;     // By state.
  Gauge& left_records;       // In those that it has tried.
  Counter& drained_records;  // Delivered from them.
  Counter& dropped_records;  // Given up in them.
  Counter& removed;          // Spools.
};

// Of the agent, if it takes half messages.
struct HalfMessageMetrics {
  explicit HalfMessageMetrics(Registry& registry);

  Family<Gauge>& messages;    // By state.
  Family<Counter>& outcomes;  // By outcome.
  Family<Counter>& checks;    // Questions to services, by what they said.
};

struct InjectMetrics {
  explicit InjectMetrics(Registry& registry);

  Family<Counter>& reviews;   // By outcome.
  Histogram& review_seconds;  // From the whole request to its answer.
  Gauge& certificate_expiry_timestamp_seconds;
  Gauge& configuration_refused;  // 1 while the newest configuration is not the one in use.
};

}  // namespace holdfast::metrics

// An outbox in a service's own LMDB environment: the event is written in the transaction that makes
// the business change, so there are both or neither, and Holdfast's agent, another process on the
// same host, sends each exactly once. Copy this file; it needs lmdb.h (0.9) and nothing else. C99,
// or C++ from C++17 on (see the end).
//
//   mdb_env_set_maxdbs(env, MINE + HOLDFAST_OUTBOX_DATABASES);  // Before mdb_env_open.
//   ...
//   holdfast_outbox outbox;                        // Once, in the first write transaction.
//   if ((rc = holdfast_outbox_open(txn, &outbox)) != 0) ...
//   ...
//   mdb_put(txn, orders, ...);                     // The business change,
//   holdfast_outbox_event event = {0};             // and its event.
//   event.route = holdfast_outbox_text("orders");
//   event.key = holdfast_outbox_text(order_id);
//   event.payload = holdfast_outbox_text(json);
//   if ((rc = holdfast_outbox_put(&outbox, txn, &event)) != 0) ... mdb_txn_abort(txn) ...
//   mdb_txn_commit(txn);
//
// docs/examples/outbox_lmdb.c is a whole service.
//
// Order: LMDB has one writer at a time, in all processes, so events are sent in the order in which
// their transactions were committed.
//
// Errors: all functions return 0, an errno or an LMDB error, as lmdb.h does. After EINVAL and
// EMSGSIZE nothing was written; after any other error abort the transaction.
// - MDB_DBS_FULL: see mdb_env_set_maxdbs above.
// - MDB_MAP_FULL: the map is full, perhaps because the agent is not running and events pile up.
//   Abort; enlarge the map with mdb_env_set_mapsize while no transaction is open in this process;
//   try again. The agent takes over the new size by itself.
// - MDB_MAP_RESIZED (from mdb_txn_begin): another process has enlarged the map; call
//   mdb_env_set_mapsize(env, 0). The agent never enlarges it.
//
// The environment: not with MDB_NOLOCK, since there are two processes, and not with MDB_WRITEMAP,
// which LMDB advises against if not all processes use it. With MDB_NOSYNC or MDB_NOMETASYNC a power
// cut may undo a change whose event was sent already. The agent's LMDB must have the same format of
// lock file: any 0.9 has. The agent removes what it took in short write transactions of its own,
// for which the service's may have to wait some milliseconds; and while one of the service's is
// open the agent waits, so keep them short.
//
// What is stored, all integers little-endian:
//   holdfast.outbox             key: the position, 64 bits, native order (MDB_INTEGERKEY); value:
//       0  u32  CRC-32C of all bytes behind it
//       4  u8   version: 1
//       5  u8   1: there is a key; 2: there is a payload
//       6  u16  number of headers
//       8  i64  timestamp, milliseconds since 1970
//      16  u32  sizes of id, route, key and payload
//      32       their bytes, in this order; then for each header
//          u32  size of the name
//          u32  size of the value, or 0xffffffff: none
//               their bytes
//   holdfast.outbox.meta        "position": the last position that was given, u64
//   holdfast.outbox.quarantine  position: u32 size of the reason, the reason, the value as it was
#pragma once

#include <errno.h>
#include <lmdb.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/types.h>

#if SIZE_MAX < UINT64_MAX
#error "positions are keys of 64 bits, which LMDB has on 64-bit machines only"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define HOLDFAST_OUTBOX_DATABASES 3
#define HOLDFAST_OUTBOX_EVENTS "holdfast.outbox"
#define HOLDFAST_OUTBOX_META "holdfast.outbox.meta"
#define HOLDFAST_OUTBOX_QUARANTINE "holdfast.outbox.quarantine"
#define HOLDFAST_OUTBOX_POSITION "position"

// What an event and its headers may have together: more than any Kafka cluster takes.
#define HOLDFAST_OUTBOX_BYTES_MAX ((size_t)64 << 20)
#define HOLDFAST_OUTBOX_HEADERS_MAX 65535

#define HOLDFAST_OUTBOX_VERSION 1
#define HOLDFAST_OUTBOX_HAS_KEY 1
#define HOLDFAST_OUTBOX_HAS_PAYLOAD 2
#define HOLDFAST_OUTBOX_FIXED_BYTES 32
#define HOLDFAST_OUTBOX_NO_VALUE UINT32_C(0xffffffff)

// Handles of the environment, as an MDB_dbi is one: any thread may use it for its own transaction.
typedef struct holdfast_outbox {
  MDB_dbi events;
  MDB_dbi meta;
} holdfast_outbox;

// `data` NULL: there is none, which is not the same as none of them.
typedef struct holdfast_outbox_bytes {
  const void* data;
  size_t size;
} holdfast_outbox_bytes;

typedef struct holdfast_outbox_header {
  holdfast_outbox_bytes name;
  holdfast_outbox_bytes value;  // None: a header without value.
} holdfast_outbox_header;

// All zero is a good start; only the route has to be set.
typedef struct holdfast_outbox_event {
  holdfast_outbox_bytes route;    // By which the agent chooses the topic: `orders`.
  holdfast_outbox_bytes key;      // Events of one key stay in order. None: a record without key.
  holdfast_outbox_bytes payload;  // None: a tombstone.
  holdfast_outbox_bytes id;       // Becomes the header `id`. None: a random UUID.
  int64_t timestamp_ms;           // Milliseconds since 1970. 0: now.
  const holdfast_outbox_header* headers;
  size_t header_count;
} holdfast_outbox_event;

static inline holdfast_outbox_bytes holdfast_outbox_text(const char* text) {
  holdfast_outbox_bytes bytes;
  bytes.data = text;
  bytes.size = text == NULL ? 0 : strlen(text);
  return bytes;
}

static inline unsigned char* holdfast_outbox_store(unsigned char* at, uint64_t value, int bytes) {
  int i;
  for (i = 0; i < bytes; ++i) at[i] = (unsigned char)(value >> (8 * i));
  return at + bytes;
}

static inline uint64_t holdfast_outbox_load(const void* from, int bytes) {
  const unsigned char* at = (const unsigned char*)from;
  uint64_t value = 0;
  int i;
  for (i = bytes; i-- > 0;) value = value << 8 | at[i];
  return value;
}

static inline unsigned char* holdfast_outbox_copy(unsigned char* at, holdfast_outbox_bytes bytes) {
  if (bytes.size != 0) memcpy(at, bytes.data, bytes.size);
  return at + bytes.size;
}

// CRC-32C, half a byte at a time: the table is small, and events are.
static inline uint32_t holdfast_outbox_crc(const unsigned char* bytes, size_t size) {
  static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                     0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                     0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                     0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
  uint32_t crc = UINT32_C(0xffffffff);
  size_t i;
  for (i = 0; i < size; ++i) {
    crc ^= bytes[i];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}

// A random UUID as text, with a zero behind it.
static inline int holdfast_outbox_new_id(char* text) {
  static const char digits[] = "0123456789abcdef";
  unsigned char random[16];
  int i;
  ssize_t got;
  do {
    got = getrandom(random, sizeof random, 0);
  } while (got < 0 && errno == EINTR);
  if (got != (ssize_t)sizeof random) return got < 0 ? errno : EIO;
  random[6] = (unsigned char)((random[6] & 0x0f) | 0x40);
  random[8] = (unsigned char)((random[8] & 0x3f) | 0x80);
  for (i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *text++ = '-';
    *text++ = digits[random[i] >> 4];
    *text++ = digits[random[i] & 15];
  }
  *text = '\0';
  return 0;
}

// Opens the databases, and makes them if they are not there. As mdb_dbi_open: once per environment,
// in no two transactions at a time, and good for others once `txn` is committed.
static inline int holdfast_outbox_open(MDB_txn* txn, holdfast_outbox* outbox) {
  MDB_dbi quarantine;
  MDB_cursor* cursor;
  MDB_val name, value;
  uint64_t given = 0, last = 0;
  unsigned char bytes[8];
  int rc;
  if ((rc = mdb_dbi_open(txn, HOLDFAST_OUTBOX_EVENTS, MDB_CREATE | MDB_INTEGERKEY,
                         &outbox->events)) != 0 ||
      (rc = mdb_dbi_open(txn, HOLDFAST_OUTBOX_META, MDB_CREATE, &outbox->meta)) != 0 ||
      (rc = mdb_dbi_open(txn, HOLDFAST_OUTBOX_QUARANTINE, MDB_CREATE | MDB_INTEGERKEY,
                         &quarantine)) != 0)
    return rc;
  // Positions go on behind the last one, also if somebody has emptied the databases by hand.
  name.mv_data = (void*)(size_t)HOLDFAST_OUTBOX_POSITION;
  name.mv_size = sizeof HOLDFAST_OUTBOX_POSITION - 1;
  rc = mdb_get(txn, outbox->meta, &name, &value);
  if (rc == 0 && value.mv_size == sizeof bytes) given = holdfast_outbox_load(value.mv_data, 8);
  if (rc != 0 && rc != MDB_NOTFOUND) return rc;
  if ((rc = mdb_cursor_open(txn, outbox->events, &cursor)) != 0) return rc;
  rc = mdb_cursor_get(cursor, &name, &value, MDB_LAST);
  if (rc == 0 && name.mv_size == sizeof last) memcpy(&last, name.mv_data, sizeof last);
  mdb_cursor_close(cursor);
  if (rc != 0 && rc != MDB_NOTFOUND) return rc;
  if (given != 0 && given >= last) return 0;
  holdfast_outbox_store(bytes, last, 8);
  name.mv_data = (void*)(size_t)HOLDFAST_OUTBOX_POSITION;
  name.mv_size = sizeof HOLDFAST_OUTBOX_POSITION - 1;
  value.mv_data = bytes;
  value.mv_size = sizeof bytes;
  return given == 0 && last == 0 ? 0 : mdb_put(txn, outbox->meta, &name, &value, 0);
}

// Adds the event to the service's transaction: with it it is committed, or aborted. EINVAL: the
// route, or a header's name, is missing. EMSGSIZE: more than the limits above.
static inline int holdfast_outbox_put(const holdfast_outbox* outbox, MDB_txn* txn,
                                      const holdfast_outbox_event* event) {
  char new_id[37];
  holdfast_outbox_bytes id = event->id;
  int64_t timestamp_ms = event->timestamp_ms;
  unsigned char bytes[8];
  unsigned char* value;
  unsigned char* at;
  uint64_t position = 0;
  size_t size, i;
  MDB_val key, stored;
  int rc;

  if (event->route.data == NULL || event->route.size == 0) return EINVAL;
  if (event->header_count > HOLDFAST_OUTBOX_HEADERS_MAX) return EMSGSIZE;
  if (id.data == NULL) {
    if ((rc = holdfast_outbox_new_id(new_id)) != 0) return rc;
    id = holdfast_outbox_text(new_id);
  }
  if (id.size > HOLDFAST_OUTBOX_BYTES_MAX || event->route.size > HOLDFAST_OUTBOX_BYTES_MAX ||
      event->key.size > HOLDFAST_OUTBOX_BYTES_MAX ||
      event->payload.size > HOLDFAST_OUTBOX_BYTES_MAX)
    return EMSGSIZE;
  size = HOLDFAST_OUTBOX_FIXED_BYTES + id.size + event->route.size;
  if (event->key.data != NULL) size += event->key.size;
  if (event->payload.data != NULL) size += event->payload.size;
  for (i = 0; i < event->header_count; ++i) {
    const holdfast_outbox_header* header = &event->headers[i];
    if (header->name.data == NULL) return EINVAL;
    if (header->name.size > HOLDFAST_OUTBOX_BYTES_MAX ||
        header->value.size > HOLDFAST_OUTBOX_BYTES_MAX)
      return EMSGSIZE;
    size += 8 + header->name.size + (header->value.data != NULL ? header->value.size : 0);
  }
  if (size > HOLDFAST_OUTBOX_BYTES_MAX) return EMSGSIZE;
  if (timestamp_ms == 0) {
    struct timeval now;
    gettimeofday(&now, NULL);
    timestamp_ms = (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
  }

  key.mv_data = (void*)(size_t)HOLDFAST_OUTBOX_POSITION;
  key.mv_size = sizeof HOLDFAST_OUTBOX_POSITION - 1;
  rc = mdb_get(txn, outbox->meta, &key, &stored);
  if (rc != 0 && rc != MDB_NOTFOUND) return rc;
  if (rc == 0 && stored.mv_size == sizeof bytes) position = holdfast_outbox_load(stored.mv_data, 8);
  ++position;
  // The position first: if the event's page then cannot be had, no position can be given twice.
  holdfast_outbox_store(bytes, position, 8);
  stored.mv_data = bytes;
  stored.mv_size = sizeof bytes;
  if ((rc = mdb_put(txn, outbox->meta, &key, &stored, 0)) != 0) return rc;

  key.mv_data = &position;
  key.mv_size = sizeof position;
  stored.mv_data = NULL;
  stored.mv_size = size;
  rc = mdb_put(txn, outbox->events, &key, &stored, MDB_APPEND | MDB_RESERVE);
  if (rc != 0) return rc;
  value = (unsigned char*)stored.mv_data;
  at = value + 4;
  *at++ = HOLDFAST_OUTBOX_VERSION;
  *at++ = (unsigned char)((event->key.data != NULL ? HOLDFAST_OUTBOX_HAS_KEY : 0) |
                          (event->payload.data != NULL ? HOLDFAST_OUTBOX_HAS_PAYLOAD : 0));
  at = holdfast_outbox_store(at, event->header_count, 2);
  at = holdfast_outbox_store(at, (uint64_t)timestamp_ms, 8);
  at = holdfast_outbox_store(at, id.size, 4);
  at = holdfast_outbox_store(at, event->route.size, 4);
  at = holdfast_outbox_store(at, event->key.data != NULL ? event->key.size : 0, 4);
  at = holdfast_outbox_store(at, event->payload.data != NULL ? event->payload.size : 0, 4);
  at = holdfast_outbox_copy(at, id);
  at = holdfast_outbox_copy(at, event->route);
  if (event->key.data != NULL) at = holdfast_outbox_copy(at, event->key);
  if (event->payload.data != NULL) at = holdfast_outbox_copy(at, event->payload);
  for (i = 0; i < event->header_count; ++i) {
    const holdfast_outbox_header* header = &event->headers[i];
    const int has_value = header->value.data != NULL;
    at = holdfast_outbox_store(at, header->name.size, 4);
    at = holdfast_outbox_store(at, has_value ? header->value.size : HOLDFAST_OUTBOX_NO_VALUE, 4);
    at = holdfast_outbox_copy(at, header->name);
    if (has_value) at = holdfast_outbox_copy(at, header->value);
  }
  holdfast_outbox_store(value, holdfast_outbox_crc(value + 4, size - 4), 4);
  return 0;
}

#ifdef __cplusplus
}  // extern "C"

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast {

// As holdfast_outbox_event. An empty id is none.
struct OutboxEvent {
  std::string_view route;
  std::optional<std::string_view> key = {};
  std::optional<std::string_view> payload = {};
  std::string_view id = {};
  int64_t timestamp_ms = 0;
  std::vector<std::pair<std::string_view, std::optional<std::string_view>>> headers = {};
};

// As holdfast_outbox_put.
inline int PutOutboxEvent(const holdfast_outbox& outbox, MDB_txn* txn, const OutboxEvent& event) {
  const auto bytes = [](const std::optional<std::string_view>& text) {
    if (!text) return holdfast_outbox_bytes{nullptr, 0};
    return holdfast_outbox_bytes{text->empty() ? "" : text->data(), text->size()};
  };
  std::vector<holdfast_outbox_header> headers;
  for (const auto& [name, value] : event.headers) headers.push_back({bytes(name), bytes(value)});
  holdfast_outbox_event put = {};
  put.route = bytes(event.route);
  put.key = bytes(event.key);
  put.payload = bytes(event.payload);
  if (!event.id.empty()) put.id = bytes(event.id);
  put.timestamp_ms = event.timestamp_ms;
  put.headers = headers.data();
  put.header_count = headers.size();
  return holdfast_outbox_put(&outbox, txn, &put);
}

}  // namespace holdfast
#endif

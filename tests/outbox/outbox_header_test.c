// include/holdfast/outbox.h as a C99 compiler reads it, in two files of one program.
#include "include/holdfast/outbox.h"

int PutFromC(const holdfast_outbox* outbox, MDB_txn* txn, const char* id);

int PutFromC(const holdfast_outbox* outbox, MDB_txn* txn, const char* id) {
  holdfast_outbox_header headers[3] = {0};
  holdfast_outbox_event event = {0};
  headers[0].name = holdfast_outbox_text("type");
  headers[0].value = holdfast_outbox_text("OrderPlaced");
  headers[1].name = holdfast_outbox_text("empty");
  headers[1].value = holdfast_outbox_text("");
  headers[2].name = holdfast_outbox_text("none");
  event.id = holdfast_outbox_text(id);
  event.route = holdfast_outbox_text("orders");
  event.key = holdfast_outbox_text("o-1");
  event.payload.data = "\0\xff";
  event.payload.size = 2;
  event.timestamp_ms = INT64_C(1700000000123);
  event.headers = headers;
  event.header_count = 3;
  return holdfast_outbox_put(outbox, txn, &event);
}

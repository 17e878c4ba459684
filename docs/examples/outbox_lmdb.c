// A service with an LMDB environment of its own: an order book. Each order and the event that tells
// others of it are written in one transaction, so there are both or neither. Holdfast's agent sends
// the events:
//
//   agent:
//     outbox:
//       - name: orders
//         lmdb: {directory: /var/lib/orders}
//
// usage: outbox_lmdb DIRECTORY ORDER CUSTOMER AMOUNT
//   cc -Iinclude docs/examples/outbox_lmdb.c -llmdb -o outbox_lmdb

#include <holdfast/outbox.h>
#include <stdio.h>
#include <stdlib.h>

#define MAP_BYTES ((size_t)64 << 20)

typedef struct book {
  MDB_env* env;
  MDB_dbi orders;
  holdfast_outbox outbox;
} book;

static int open_book(book* book, const char* directory) {
  MDB_txn* txn = NULL;
  int rc;
  if ((rc = mdb_env_create(&book->env)) != 0) return rc;
  mdb_env_set_maxdbs(book->env, 1 + HOLDFAST_OUTBOX_DATABASES);
  mdb_env_set_mapsize(book->env, MAP_BYTES);
  // The agent has to be able to write: it runs as the same user, or in the same group.
  if ((rc = mdb_env_open(book->env, directory, 0, 0660)) != 0) return rc;
  if ((rc = mdb_txn_begin(book->env, NULL, 0, &txn)) != 0) return rc;
  if ((rc = mdb_dbi_open(txn, "orders", MDB_CREATE, &book->orders)) != 0 ||
      (rc = holdfast_outbox_open(txn, &book->outbox)) != 0) {
    mdb_txn_abort(txn);
    return rc;
  }
  return mdb_txn_commit(txn);
}

static int add_order(book* book, const char* order, const char* customer, int amount) {
  MDB_txn* txn = NULL;
  MDB_val key, value;
  holdfast_outbox_header type = {holdfast_outbox_text("type"), holdfast_outbox_text("OrderPlaced")};
  holdfast_outbox_event event = {0};
  char json[256];
  int rc;
  snprintf(json, sizeof json, "{\"order\":\"%s\",\"customer\":\"%s\",\"amount\":%d}", order,
           customer, amount);
  if ((rc = mdb_txn_begin(book->env, NULL, 0, &txn)) != 0) return rc;

  // The business change. An order is placed once.
  key.mv_data = (void*)(size_t)order;
  key.mv_size = strlen(order);
  value.mv_data = json;
  value.mv_size = strlen(json);
  rc = mdb_put(txn, book->orders, &key, &value, MDB_NOOVERWRITE);

  // And its event. One key: what happens to an order is told in order.
  event.route = holdfast_outbox_text("orders");
  event.key = holdfast_outbox_text(order);
  event.payload = holdfast_outbox_text(json);
  event.headers = &type;
  event.header_count = 1;
  if (rc == 0) rc = holdfast_outbox_put(&book->outbox, txn, &event);

  if (rc != 0) {
    mdb_txn_abort(txn);  // Neither.
    return rc;
  }
  return mdb_txn_commit(txn);  // Both.
}

int main(int argc, char** argv) {
  book book = {0};
  int rc;
  if (argc != 5) {
    fprintf(stderr, "usage: outbox_lmdb DIRECTORY ORDER CUSTOMER AMOUNT\n");
    return 2;
  }
  rc = open_book(&book, argv[1]);
  if (rc == 0) rc = add_order(&book, argv[2], argv[3], atoi(argv[4]));
  if (rc != 0) fprintf(stderr, "outbox_lmdb: %s\n", mdb_strerror(rc));
  if (book.env != NULL) mdb_env_close(book.env);
  return rc == 0 ? 0 : 1;
}

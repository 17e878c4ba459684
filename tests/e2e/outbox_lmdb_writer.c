// A service for the tests of the outbox: changes accounts in an LMDB environment, with an event for
// each change, until it is killed.
//
// usage: outbox_lmdb_writer DIRECTORY WRITER   writes
//        outbox_lmdb_writer DIRECTORY hold     commits a change, prints `held`, and keeps a write
//                                              transaction open until it is killed
//        outbox_lmdb_writer DIRECTORY          prints each account and its number of changes, and
//                                              then `left` and the number of events still there
#include <holdfast/outbox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCOUNTS 10

typedef struct service {
  MDB_env* env;
  MDB_dbi accounts;
  holdfast_outbox outbox;
} service;

static void check(int rc, const char* what) {
  if (rc == 0) return;
  fprintf(stderr, "%s: %s\n", what, mdb_strerror(rc));
  exit(1);
}

static void open_service(service* service, const char* directory) {
  MDB_txn* txn = NULL;
  check(mdb_env_create(&service->env), "create");
  mdb_env_set_maxdbs(service->env, 1 + HOLDFAST_OUTBOX_DATABASES);
  mdb_env_set_mapsize(service->env, (size_t)256 << 20);
  check(mdb_env_open(service->env, directory, 0, 0660), "open");
  check(mdb_txn_begin(service->env, NULL, 0, &txn), "begin");
  check(mdb_dbi_open(txn, "accounts", MDB_CREATE | MDB_INTEGERKEY, &service->accounts), "accounts");
  check(holdfast_outbox_open(txn, &service->outbox), "outbox");
  check(mdb_txn_commit(txn), "commit");
}

static unsigned long changes_of(service* service, MDB_txn* txn, unsigned account) {
  MDB_val key = {sizeof account, &account};
  MDB_val value;
  unsigned long changes = 0;
  if (mdb_get(txn, service->accounts, &key, &value) == 0) memcpy(&changes, value.mv_data, sizeof changes);
  return changes;
}

static void change(service* service, MDB_txn* txn, unsigned account) {
  MDB_val key = {sizeof account, &account};
  unsigned long changes = changes_of(service, txn, account) + 1;
  MDB_val value = {sizeof changes, &changes};
  char name[64];
  char key_text[16];
  holdfast_outbox_event event = {0};
  check(mdb_put(txn, service->accounts, &key, &value, 0), "put");
  snprintf(name, sizeof name, "%u/%lu", account, changes);
  snprintf(key_text, sizeof key_text, "%u", account);
  event.route = holdfast_outbox_text("Account");
  event.key = holdfast_outbox_text(key_text);
  event.payload = holdfast_outbox_text(name);
  event.id = holdfast_outbox_text(name);
  check(holdfast_outbox_put(&service->outbox, txn, &event), "outbox put");
}

static void show(service* service) {
  MDB_txn* txn = NULL;
  MDB_stat stat;
  unsigned account;
  check(mdb_txn_begin(service->env, NULL, MDB_RDONLY, &txn), "begin");
  for (account = 0; account < ACCOUNTS; ++account)
    printf("%u %lu\n", account, changes_of(service, txn, account));
  check(mdb_stat(txn, service->outbox.events, &stat), "stat");
  printf("left %zu\n", stat.ms_entries);
  mdb_txn_abort(txn);
}

static void hold(service* service) {
  MDB_txn* txn = NULL;
  check(mdb_txn_begin(service->env, NULL, 0, &txn), "begin");
  change(service, txn, 0);
  check(mdb_txn_commit(txn), "commit");
  check(mdb_txn_begin(service->env, NULL, 0, &txn), "begin");
  puts("held");
  fflush(stdout);
  for (;;) pause();
}

int main(int argc, char** argv) {
  service service = {0};
  if (argc != 2 && argc != 3) return 2;
  open_service(&service, argv[1]);
  if (argc == 2) {
    show(&service);
    return 0;
  }
  if (strcmp(argv[2], "hold") == 0) hold(&service);
  srand((unsigned)atoi(argv[2]));
  for (;;) {
    MDB_txn* txn = NULL;
    int events = 1 + rand() % 20;
    check(mdb_txn_begin(service.env, NULL, 0, &txn), "begin");
    while (events-- > 0) change(&service, txn, (unsigned)(rand() % ACCOUNTS));
    if (rand() % 5 == 0) {
      mdb_txn_abort(txn);
    } else {
      check(mdb_txn_commit(txn), "commit");
    }
    usleep((useconds_t)(rand() % 10000));
  }
}

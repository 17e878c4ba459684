package holdfast.golden;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.RawTaggedField;

/** Requests and responses, header and body, filled by {@link Filler} from Kafka's own schemas. */
final class Messages {
  static final int CORRELATION_ID = 0x01020304;
  static final String CLIENT_ID = "golden-client";
  private static final HexFormat HEX = HexFormat.of();
  private static final ObjectMapper JSON = new ObjectMapper().enable(JsonParser.Feature.ALLOW_COMMENTS);

  static final List<ApiKeys> APIS = List.of(
      ApiKeys.PRODUCE, ApiKeys.FETCH, ApiKeys.LIST_OFFSETS, ApiKeys.METADATA, ApiKeys.OFFSET_COMMIT,
      ApiKeys.OFFSET_FETCH, ApiKeys.FIND_COORDINATOR, ApiKeys.JOIN_GROUP, ApiKeys.HEARTBEAT, ApiKeys.LEAVE_GROUP,
      ApiKeys.SYNC_GROUP, ApiKeys.DESCRIBE_GROUPS, ApiKeys.LIST_GROUPS, ApiKeys.API_VERSIONS, ApiKeys.CREATE_TOPICS,
      ApiKeys.DELETE_TOPICS, ApiKeys.DELETE_RECORDS, ApiKeys.INIT_PRODUCER_ID, ApiKeys.OFFSET_FOR_LEADER_EPOCH, ApiKeys.DESCRIBE_CONFIGS,
      ApiKeys.CREATE_PARTITIONS, ApiKeys.DELETE_GROUPS, ApiKeys.OFFSET_DELETE, ApiKeys.DESCRIBE_CLUSTER,
      ApiKeys.DESCRIBE_PRODUCERS, ApiKeys.DESCRIBE_TOPIC_PARTITIONS, ApiKeys.GET_TELEMETRY_SUBSCRIPTIONS,
      ApiKeys.PUSH_TELEMETRY, ApiKeys.SHARE_FETCH, ApiKeys.SHARE_ACKNOWLEDGE, ApiKeys.ADD_PARTITIONS_TO_TXN,
      ApiKeys.ADD_OFFSETS_TO_TXN, ApiKeys.END_TXN, ApiKeys.TXN_OFFSET_COMMIT, ApiKeys.SASL_HANDSHAKE,
      ApiKeys.SASL_AUTHENTICATE, ApiKeys.WRITE_TXN_MARKERS, ApiKeys.DESCRIBE_TRANSACTIONS,
      ApiKeys.LIST_TRANSACTIONS, ApiKeys.ALTER_CONFIGS, ApiKeys.INCREMENTAL_ALTER_CONFIGS,
      ApiKeys.LIST_CONFIG_RESOURCES, ApiKeys.ELECT_LEADERS, ApiKeys.ALTER_PARTITION_REASSIGNMENTS,
      ApiKeys.LIST_PARTITION_REASSIGNMENTS, ApiKeys.DESCRIBE_QUORUM,
      ApiKeys.ADD_RAFT_VOTER, ApiKeys.ALTER_CLIENT_QUOTAS, ApiKeys.ALTER_REPLICA_LOG_DIRS,
      ApiKeys.ALTER_USER_SCRAM_CREDENTIALS, ApiKeys.CREATE_ACLS, ApiKeys.CREATE_DELEGATION_TOKEN,
      ApiKeys.DELETE_ACLS, ApiKeys.DESCRIBE_ACLS, ApiKeys.DESCRIBE_CLIENT_QUOTAS,
      ApiKeys.DESCRIBE_DELEGATION_TOKEN, ApiKeys.DESCRIBE_USER_SCRAM_CREDENTIALS,
      ApiKeys.EXPIRE_DELEGATION_TOKEN, ApiKeys.REMOVE_RAFT_VOTER, ApiKeys.RENEW_DELEGATION_TOKEN,
      ApiKeys.UNREGISTER_BROKER, ApiKeys.UPDATE_FEATURES,
      ApiKeys.CONSUMER_GROUP_HEARTBEAT, ApiKeys.CONSUMER_GROUP_DESCRIBE, ApiKeys.DESCRIBE_LOG_DIRS);

  private Messages() {}

  static void write(Path directory) throws Exception {
    for (ApiKeys api : APIS) {
      for (String kind : List.of("Request", "Response")) {
        String name = api.name + kind;
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(directory.resolve(name + ".hex")))) {
          write(out, api, name, kind.equals("Request"));
        }
      }
    }
  }

  private static void write(PrintWriter out, ApiKeys api, String name, boolean request) throws Exception {
    JsonNode schema = schema(name);
    short newest = api.latestVersion(false);
    for (short version = api.oldestVersion(); version <= newest; version++) {
      boolean flexible = api.requestHeaderVersion(version) >= 2;
      for (Filler.Variant variant : Filler.Variant.values()) {
        if (variant == Filler.Variant.UNKNOWN_TAGS && !(flexible && version == newest)) continue;
        ObjectNode content = new Filler(variant, version, schema.get("commonStructs")).struct(schema.get("fields"), "");
        ApiMessage message = message(name, content, version);
        if (variant == Filler.Variant.UNKNOWN_TAGS) addTags(message, "");
        out.printf("v%d %s %s%n", version, variant.name().toLowerCase(), HEX.formatHex(frame(api, message, version, request)));
      }
    }
  }

  /** Header and body as they stand on the wire, without the length before them. */
  private static byte[] frame(ApiKeys api, ApiMessage message, short version, boolean request) {
    ByteBuffer header = request
        ? bytes(
            new RequestHeaderData().setRequestApiKey(api.id).setRequestApiVersion(version)
                .setCorrelationId(CORRELATION_ID).setClientId(CLIENT_ID),
            api.requestHeaderVersion(version))
        : bytes(
            new ResponseHeaderData().setCorrelationId(CORRELATION_ID), api.responseHeaderVersion(version));
    ByteBuffer body = bytes(message, version);
    byte[] bytes = new byte[header.remaining() + body.remaining()];
    int length = header.remaining();
    header.get(bytes, 0, length);
    body.get(bytes, length, body.remaining());
    return bytes;
  }

  private static ByteBuffer bytes(Message message, short version) {
    return MessageUtil.toByteBufferAccessor(message, version).buffer();
  }

  private static JsonNode schema(String name) throws IOException {
    try (InputStream in = ApiKeys.class.getResourceAsStream("/common/message/" + name + ".json")) {
      return JSON.readTree(in);
    }
  }

  private static ApiMessage message(String name, JsonNode content, short version) throws Exception {
    return (ApiMessage) Class.forName("org.apache.kafka.common.message." + name + "DataJsonConverter")
        .getMethod("read", JsonNode.class, short.class).invoke(null, content, version);
  }

  /** Tags that no version of Kafka has, in every struct. */
  private static void addTags(Message message, String path) throws IllegalAccessException {
    for (int tag : new int[] {100, 70_000}) {
      byte[] value = (path + "tag." + tag).getBytes(StandardCharsets.UTF_8);
      message.unknownTaggedFields().add(new RawTaggedField(tag, value));
    }
    for (var field : message.getClass().getDeclaredFields()) {
      if (java.lang.reflect.Modifier.isStatic(field.getModifiers())) continue;
      field.setAccessible(true);
      Object value = field.get(message);
      if (value instanceof Message nested) {
        addTags(nested, path + field.getName() + ".");
      } else if (value instanceof Iterable<?> elements) {
        int i = 0;
        for (Object element : elements) {
          if (element instanceof Message nested) addTags(nested, path + field.getName() + "." + i + ".");
          i++;
        }
      }
    }
  }
}

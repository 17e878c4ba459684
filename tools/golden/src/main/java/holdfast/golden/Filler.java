package holdfast.golden;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.BinaryNode;
import com.fasterxml.jackson.databind.node.BooleanNode;
import com.fasterxml.jackson.databind.node.DoubleNode;
import com.fasterxml.jackson.databind.node.IntNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.LongNode;
import com.fasterxml.jackson.databind.node.NullNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.ShortNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.zip.CRC32C;
import org.apache.kafka.common.Uuid;

/**
 * Fills the fields that a version has, each with a value that follows from its path alone, so that the reader
 * of the bytes can tell if two fields were swapped. The path of a field is "topics.1.partitions.0.leaderId".
 * Strings, bytes and records hold the path itself; a number holds the CRC-32C of the path, cut to the positive values
 * of its type (an int64: the CRC times 2^31 plus the CRC of the path's reverse); a bool is true if the CRC is odd;
 * a uuid is the CRC four times over.
 */
final class Filler {
  enum Variant {
    /** Everything set, two elements in each array, tagged fields too. */
    FULL,
    /** One element in each array, null where the version allows it, tagged fields left at their default. */
    NULLS,
    /** Empty arrays and strings, nothing null, tagged fields left at their default. */
    EMPTY,
    /** As FULL with one element, and tagged fields that Kafka does not know in every struct. */
    UNKNOWN_TAGS
  }

  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

  private final Variant variant;
  private final short version;
  private final JsonNode commonStructs; // Null if the schema has none.

  Filler(Variant variant, short version, JsonNode commonStructs) {
    this.variant = variant;
    this.version = version;
    this.commonStructs = commonStructs;
  }

  ObjectNode struct(JsonNode fields, String prefix) {
    ObjectNode object = NODES.objectNode();
    for (JsonNode field : fields) {
      if (!holds(field.get("versions"))) continue;
      boolean tagged = field.has("tag") && holds(field.get("taggedVersions"));
      if (tagged && (variant == Variant.NULLS || variant == Variant.EMPTY)) continue;
      String name = field.get("name").asText();
      name = Character.toLowerCase(name.charAt(0)) + name.substring(1);
      object.set(name, value(field, field.get("type").asText(), prefix + name));
    }
    return object;
  }

  private JsonNode value(JsonNode field, String type, String path) {
    boolean nullable = field.has("nullableVersions") && holds(field.get("nullableVersions"));
    if (nullable && variant == Variant.NULLS) return NullNode.getInstance();
    if (!type.startsWith("[]")) return single(field, type, path);
    ArrayNode array = NODES.arrayNode();
    int size = switch (variant) {
      case FULL -> 2;
      case NULLS, UNKNOWN_TAGS -> 1;
      case EMPTY -> 0;
    };
    for (int i = 0; i < size; i++) array.add(single(field, type.substring(2), path + "." + i));
    return array;
  }

  private JsonNode single(JsonNode field, String type, String path) {
    int crc = crc(path);
    boolean empty = variant == Variant.EMPTY;
    return switch (type) {
      case "bool" -> BooleanNode.valueOf((crc & 1) != 0);
      case "int8" -> ShortNode.valueOf((short) (crc & 0x7f));
      case "int16" -> ShortNode.valueOf((short) (crc & 0x7fff));
      case "uint16" -> IntNode.valueOf(crc & 0xffff);
      case "int32" -> IntNode.valueOf(crc & 0x7fffffff);
      case "int64" -> LongNode.valueOf(
          ((crc & 0x7fffffffL) << 31) + (crc(new StringBuilder(path).reverse().toString()) & 0x7fffffffL));
      case "float64" -> DoubleNode.valueOf(crc / 1024.0);
      case "string" -> TextNode.valueOf(empty ? "" : path);
      case "bytes", "records" -> BinaryNode.valueOf(empty ? new byte[0] : path.getBytes(StandardCharsets.UTF_8));
      case "uuid" -> {
        ByteBuffer id = ByteBuffer.allocate(16).putInt(crc).putInt(crc).putInt(crc).putInt(crc).flip();
        yield TextNode.valueOf(new Uuid(id.getLong(), id.getLong()).toString());
      }
      default -> struct(field.has("fields") ? field.get("fields") : common(type), path + ".");
    };
  }

  private JsonNode common(String type) {
    for (JsonNode struct : commonStructs) {
      if (struct.get("name").asText().equals(type)) return struct.get("fields");
    }
    throw new IllegalArgumentException("no struct " + type);
  }

  private static int crc(String text) {
    CRC32C crc = new CRC32C();
    crc.update(text.getBytes(StandardCharsets.UTF_8));
    return (int) crc.getValue();
  }

  private boolean holds(JsonNode range) {
    String text = range.asText();
    if (text.equals("none")) return false;
    if (text.endsWith("+")) return version >= Integer.parseInt(text.substring(0, text.length() - 1));
    int dash = text.indexOf('-');
    if (dash < 0) return version == Integer.parseInt(text);
    return version >= Integer.parseInt(text.substring(0, dash)) && version <= Integer.parseInt(text.substring(dash + 1));
  }
}

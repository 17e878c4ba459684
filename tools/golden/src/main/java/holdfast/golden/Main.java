package holdfast.golden;

import java.nio.file.Files;
import java.nio.file.Path;

/** Usage: Main DIRECTORY. Writes the golden files there. */
public final class Main {
  private Main() {}

  public static void main(String[] args) throws Exception {
    Path directory = Path.of(args[0]);
    Files.createDirectories(directory);
    RecordBatches.write(directory.resolve("record_batches.hex"));
    Messages.write(directory);
  }
}

// The header of a safetensors file, from its specification: eight bytes of little-endian length N, then N bytes of JSON that
// map each name to dtype, shape and data_offsets (relative to the end of the header), then the data. Everything in it is
// distrusted: the ranges must tile the data exactly, without a gap or an overlap, and each must be as long as its tensor.
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Reads a safetensors header.</summary>
internal static class SafetensorsHeader
{
    /// <summary>The specification's limit.</summary>
    public const long LargestHeader = 100_000_000;

    private const int Depth = 16;
    private const int MostDimensions = 64;

    /// <summary>Parses and checks the JSON part.</summary>
    /// <param name="json">The N bytes after the length.</param>
    /// <param name="path">What messages call the file.</param>
    /// <param name="fileLength">Length of the whole file in bytes.</param>
    /// <returns>Tensors in the order of their data, and the texts of __metadata__.</returns>
    /// <exception cref="FathomException">The header is damaged; the message says how and where.</exception>
    public static (List<SafetensorsEntry> Entries, Dictionary<string, string> Metadata) Parse(
        ReadOnlySpan<byte> json, string path, long fileLength)
    {
        var entries = new List<SafetensorsEntry>();
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        long dataStart = 8 + json.Length;
        if (json.Length == 0 || json[0] != (byte)'{') throw Bad(path, "the header does not begin with '{'");
        try
        {
            Read(json, path, dataStart, fileLength - dataStart, entries, metadata);
        }
        catch (JsonException e)
        {
            throw new FathomException($"{path}: the safetensors header is not valid JSON near byte {8 + (e.BytePositionInLine ?? 0)}; the file is damaged, fetch it again", e);
        }
        catch (InvalidOperationException e)
        {
            throw new FathomException($"{path}: the safetensors header is not valid UTF-8; the file is damaged, fetch it again", e);
        }

        CheckTiling(entries, path, dataStart, fileLength);
        return (entries, metadata);
    }

    private static void Read(
        ReadOnlySpan<byte> json, string path, long dataStart, long dataLength, List<SafetensorsEntry> entries, Dictionary<string, string> metadata)
    {
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = Depth });
        var names = new HashSet<string>(StringComparer.Ordinal);
        bool sawMetadata = false;
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            if (name == "__metadata__")
            {
                if (sawMetadata) throw Bad(path, "__metadata__ occurs twice");
                sawMetadata = true;
                ReadMetadata(ref reader, path, metadata);
                continue;
            }

            if (!names.Add(name)) throw Bad(path, $"tensor '{name}' occurs twice");
            entries.Add(ReadEntry(ref reader, path, name, dataStart, dataLength));
        }

        while (reader.Read())
        {
            // Nothing but spaces may follow; anything else is a JsonException.
        }
    }

    private static void ReadMetadata(ref Utf8JsonReader reader, string path, Dictionary<string, string> metadata)
    {
        if (reader.TokenType == JsonTokenType.Null) return;
        if (reader.TokenType != JsonTokenType.StartObject) throw Bad(path, "__metadata__ is no object");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String) throw Bad(path, $"__metadata__ '{key}' is no text");
            if (!metadata.TryAdd(key, reader.GetString()!)) throw Bad(path, $"__metadata__ '{key}' occurs twice");
        }
    }

    private static SafetensorsEntry ReadEntry(ref Utf8JsonReader reader, string path, string name, long dataStart, long dataLength)
    {
        if (reader.TokenType != JsonTokenType.StartObject) throw Bad(path, $"tensor '{name}' is described by no object");
        DType? type = null;
        long[]? shape = null, offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string field = reader.GetString()!;
            reader.Read();
            switch (field)
            {
                case "dtype" when type is null:
                    if (reader.TokenType != JsonTokenType.String) throw Bad(path, $"tensor '{name}': dtype is no text");
                    string text = reader.GetString()!;
                    type = DTypes.TryParse(text, out DType known) ? known : throw Bad(path, $"tensor '{name}': dtype '{text}' is unknown");
                    break;
                case "shape" when shape is null:
                    shape = ReadNumbers(ref reader, path, name, field);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadNumbers(ref reader, path, name, field);
                    break;
                case "dtype" or "shape" or "data_offsets":
                    throw Bad(path, $"tensor '{name}': {field} occurs twice");
                default:
                    reader.Skip();
                    break;
            }
        }

        if (type is null) throw Bad(path, $"tensor '{name}': dtype is missing");
        if (shape is null) throw Bad(path, $"tensor '{name}': shape is missing");
        if (offsets is null) throw Bad(path, $"tensor '{name}': data_offsets are missing");
        if (offsets.Length != 2 || offsets[0] > offsets[1])
            throw Bad(path, $"tensor '{name}': data_offsets {SafetensorsEntry.FormatShape(offsets)} are no range");
        if (offsets[1] > dataLength)
            throw Bad(path, $"tensor '{name}' ends at byte {offsets[1]} of the data, but the file holds {dataLength}");
        long bytes = SafetensorsEntry.SizeInBytes(type.Value, shape);
        if (bytes != offsets[1] - offsets[0])
        {
            throw Bad(
                path,
                $"tensor '{name}': {type.Value.SafetensorsName()} {SafetensorsEntry.FormatShape(shape)} takes {(bytes < 0 ? "too many" : bytes)} bytes, data_offsets give {offsets[1] - offsets[0]}");
        }

        return new SafetensorsEntry(name, type.Value, shape, dataStart + offsets[0], bytes);
    }

    private static long[] ReadNumbers(ref Utf8JsonReader reader, string path, string name, string field)
    {
        if (reader.TokenType != JsonTokenType.StartArray) throw Bad(path, $"tensor '{name}': {field} is no list");
        var numbers = new List<long>(4);
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long number) || number < 0)
                throw Bad(path, $"tensor '{name}': {field} holds what is no whole number of 0 or more");
            if (numbers.Count == MostDimensions) throw Bad(path, $"tensor '{name}': {field} has more than {MostDimensions} entries");
            numbers.Add(number);
        }

        return [.. numbers];
    }

    private static void CheckTiling(List<SafetensorsEntry> entries, string path, long dataStart, long fileLength)
    {
        // Empty tensors sort before the one that starts where they lie; names make the order one and only.
        entries.Sort((a, b) =>
        {
            int order = a.Offset.CompareTo(b.Offset);
            if (order == 0) order = a.Bytes.CompareTo(b.Bytes);
            return order != 0 ? order : string.CompareOrdinal(a.Name, b.Name);
        });
        long end = dataStart;
        foreach (SafetensorsEntry entry in entries)
        {
            if (entry.Offset < end) throw Bad(path, $"tensor '{entry.Name}' overlaps the one before it");
            if (entry.Offset > end) throw Bad(path, $"{entry.Offset - end} bytes before tensor '{entry.Name}' belong to no tensor");
            end = entry.Offset + entry.Bytes;
        }

        if (end != fileLength) throw Bad(path, $"{fileLength - end} bytes at the end belong to no tensor");
    }

    private static FathomException Bad(string path, string what)
    {
        // Names come from the file and may be of any length.
        if (what.Length > 400) what = what[..400] + "…";
        return new FathomException($"{path}: {what}; the file is damaged or no safetensors file");
    }
}

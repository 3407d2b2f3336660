// Reference tensors, read with the few lines a trusted safetensors file needs: the real reader lives in a project above this one.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Fathom.Testing;

namespace Fathom.Numerics.Tests;

internal static class GoldenTensors
{
    public static T[] Casts<T>(string name) where T : unmanaged => Read<T>(Golden.Fixture("number-formats", "casts.safetensors"), name);

    public static T[] Products<T>(string name) where T : unmanaged => Read<T>(Golden.Fixture("nano-v3-fp8", "reference.safetensors"), name);

    private static T[] Read<T>(string path, string name) where T : unmanaged
    {
        byte[] file = File.ReadAllBytes(path);
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        using JsonDocument json = JsonDocument.Parse(file.AsMemory(8, header));
        JsonElement range = json.RootElement.GetProperty(name).GetProperty("data_offsets");
        int start = 8 + header + range[0].GetInt32(), end = 8 + header + range[1].GetInt32();
        return MemoryMarshal.Cast<byte, T>(file.AsSpan(start, end - start)).ToArray();
    }
}

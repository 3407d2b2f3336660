// The golden casts, read with the few lines a trusted safetensors file needs: the real reader lives in a project above this one.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Fathom.Testing;

namespace Fathom.Numerics.Tests;

internal static class CastFixture
{
    public static T[] Read<T>(string name) where T : unmanaged
    {
        byte[] file = File.ReadAllBytes(Golden.Fixture("number-formats", "casts.safetensors"));
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        using JsonDocument json = JsonDocument.Parse(file.AsMemory(8, header));
        JsonElement range = json.RootElement.GetProperty(name).GetProperty("data_offsets");
        int start = 8 + header + range[0].GetInt32(), end = 8 + header + range[1].GetInt32();
        return MemoryMarshal.Cast<byte, T>(file.AsSpan(start, end - start)).ToArray();
    }
}

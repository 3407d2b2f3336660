// Any bytes give a configuration or a FathomException with one line, and any configuration that is read can be sized, laid
// out and written again.
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Numerics;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class ModelConfigFuzzTests(ITestOutputHelper output)
{
    private static readonly JsonNode?[] Values =
    [
        null, 0, 1, -1, 2, 7, int.MaxValue, long.MaxValue, 0.5, 1e300, -1e-300, true, false, "", "yarn", "greedy",
        "deepseek_v2", new JsonArray(), new JsonArray(1, 2), new JsonArray("x"), new JsonObject(), new JsonObject { ["type"] = "yarn" },
    ];

    [Fact]
    public void Mutated_bytes_never_crash()
    {
        byte[] json = Encoding.UTF8.GetBytes(ModelPresets.Get("deepseek-v3.1").ToJson());
        var random = new Random(1234);
        int accepted = 0;
        for (int i = 0; i < 4000; i++)
        {
            byte[] mutated = [.. json];
            for (int n = random.Next(1, 4); n > 0; n--)
            {
                int at = random.Next(mutated.Length);
                switch (random.Next(4))
                {
                    case 0: mutated[at] = (byte)random.Next(256); break;
                    case 1: mutated[at] = (byte)"{}[]\",:-+.eE0123456789\\u"[random.Next(23)]; break;
                    case 2: mutated = [.. mutated[..at], .. mutated[random.Next(at, mutated.Length)..]]; break;
                    default: mutated = [.. mutated[..at], (byte)random.Next(32, 127), .. mutated[at..]]; break;
                }

                if (mutated.Length == 0) break;
            }

            if (Survives(mutated)) accepted++;
        }

        output.WriteLine($"4000 mutations, {accepted} still a configuration");
        Assert.InRange(accepted, 1, 3999);
    }

    [Fact]
    public void Mutated_fields_never_crash()
    {
        var random = new Random(99);
        string[] sources = [ModelPresets.Get("deepseek-v3.1").ToJson(), ModelPresets.Get("deepseek-v2-lite").ToJson(), ModelPresets.Get("nano").ToJson()];
        int accepted = 0;
        for (int i = 0; i < 6000; i++)
        {
            JsonObject json = JsonNode.Parse(sources[i % sources.Length])!.AsObject();
            for (int n = random.Next(1, 4); n > 0; n--)
            {
                string[] names = [.. json.Select(p => p.Key), "rope_parameters", "dtype", "qk_head_dim", "extra"];
                string name = names[random.Next(names.Length)];
                JsonObject target = json[name] is JsonObject { Count: > 0 } section && random.Next(2) == 0 ? section : json;
                if (target != json) name = target.ElementAt(random.Next(target.Count)).Key;
                if (random.Next(5) == 0)
                    target.Remove(name);
                else
                    target[name] = Values[random.Next(Values.Length)]?.DeepClone();
            }

            if (Survives(JsonSerializer.SerializeToUtf8Bytes(json))) accepted++;
        }

        output.WriteLine($"6000 mutations, {accepted} still a configuration");
        Assert.InRange(accepted, 1, 5999);
    }

    private static bool Survives(byte[] json)
    {
        ModelConfig config;
        try
        {
            config = ModelConfig.Parse(json);
        }
        catch (FathomException e)
        {
            Assert.DoesNotContain('\n', e.Message);
            return false;
        }

        var size = new ModelSize(config);
        Assert.True(size.FileParameters > 0 && size.ActiveParameters <= size.MainParameters, config.ToJson());
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config).Take(100)) Assert.True(tensor.Elements > 0, tensor.Name);
        string written = config.ToJson();
        Assert.Equal(written, ModelConfig.Parse(written).ToJson());
        return true;
    }
}

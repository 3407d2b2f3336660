// A GPU replays decode steps that it has recorded. Sequences that come, go and grow change a step's form, and what is replayed must be
// what would have been computed.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Testing;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class RecordedDecodeTests(ITestOutputHelper output)
{
    [Fact]
    public void Replayed_steps_give_the_same_bits()
    {
        using Device device = TestDevices.Open("cuda");
        ModelConfig config = TestModels.Config();
        DeepSeekModel model = TestModels.Random(device, config);
        var cache = new LatentCache(device, config, 4096);
        var reused = new InferencePass(device);
        CachedSequence[] sequences = [.. Enumerable.Range(0, 3).Select(_ => new CachedSequence(cache.Pool))];
        for (int i = 0; i < sequences.Length; i++) Prefill(sequences[i], 5 + 250 * i);
        int steps = 0;
        foreach (int together in (int[])[1, 1, 3, 3, 3, 2, 2, 1, 3])
        {
            for (int times = 0; times < 3; times++, steps++)
            {
                float[] replayed = Step(reused, together), computed = Step(new InferencePass(device), together);
                Assert.Equal(computed, replayed);
                foreach (CachedSequence sequence in sequences.AsSpan(0, together)) Assert.True(sequence.TryGrow(1));
            }

            Prefill(sequences[0], 40); // its tables grow wider, and the pass has chunks between
        }

        output.WriteLine($"{steps} steps, bits equal");

        void Prefill(CachedSequence sequence, int count)
        {
            Assert.True(sequence.TryGrow(count));
            reused.Clear();
            reused.AddPrefill(sequence, TestModels.Tokens(count, config.VocabSize, (ulong)count), wantLogits: true);
            model.Infer(reused, cache);
        }

        float[] Step(InferencePass pass, int together)
        {
            pass.Clear();
            for (int i = 0; i < together; i++)
            {
                Assert.True(sequences[i].TryGrow(1));
                pass.AddDecode(sequences[i], (7 * steps + i) % config.VocabSize);
            }

            float[] logits = device.Read<float>(model.Infer(pass, cache));
            foreach (CachedSequence sequence in sequences.AsSpan(0, together)) sequence.Truncate(sequence.Length - 1);
            return logits;
        }
    }
}

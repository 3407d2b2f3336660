// A GPU replays decode steps that it has recorded. Sequences that come, go and grow change a step's form, and what is replayed must be
// what would have been computed.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Testing;
using Xunit;

namespace Fathom.Inference.Tests;

public sealed class RecordedDecodeTests(ITestOutputHelper output)
{
    // The module's passes read the hidden states of the model's, whose form changes beside their own, and those of the draft before.
    [Fact]
    public void Replayed_drafts_give_the_same_bits()
    {
        using Device device = TestDevices.Open("cuda");
        ModelConfig config = TestModels.Config(mtpModules: 1);
        DeepSeekModel model = TestModels.Random(device, config);
        var cache = new LatentCache(device, config, 4096, mtpModules: 1);
        InferencePass pass = new(device) { KeepsHidden = true }, module = new(device), second = new(device);
        CachedSequence[] sequences = [.. Enumerable.Range(0, 3).Select(_ => new CachedSequence(cache.Pool))];
        foreach (CachedSequence sequence in sequences)
        {
            Assert.True(sequence.TryGrow(70));
            pass.Clear();
            pass.AddPrefill(sequence, TestModels.Tokens(70, config.VocabSize, 1), wantLogits: true);
            model.Infer(pass, cache);
            module.Clear();
            module.AddPrefill(sequence, TestModels.Tokens(70, config.VocabSize, 2), wantLogits: false);
            model.InferMtp(module, pass.Hidden, cache);
        }

        int step = 0;
        foreach (int together in (int[])[1, 1, 1, 3, 3, 3, 2, 1, 3, 2])
        {
            pass.Clear();
            for (int i = 0; i < together; i++)
            {
                Assert.True(sequences[i].TryGrow(1));
                pass.AddDecode(sequences[i], (7 * step + i) % config.VocabSize);
            }

            pass.FillUp(4, cache);
            model.Infer(pass, cache);
            InferencePass fresh = new(device), freshSecond = new(device);
            Assert.Equal(Draft(fresh, pass, together, 0), Draft(module, pass, together, 0));
            Assert.Equal(Draft(freshSecond, fresh, together, 1), Draft(second, module, together, 1));
            step++;
        }

        output.WriteLine($"{step} steps with two drafts, bits equal");

        float[] Draft(InferencePass of, InferencePass before, int together, int place)
        {
            of.Clear();
            for (int i = 0; i < together; i++)
                of.AddDecode(sequences[i], sequences[i].Length - 1, [(5 * step + i + place) % config.VocabSize], 1, i);
            of.FillUp(4, cache, 4 - place);
            return device.Read<float>(model.InferMtp(of, before.Hidden, cache));
        }
    }

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

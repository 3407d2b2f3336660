using System.Numerics;

namespace Fathom.Text.Templates;

/// <summary>Python's slices <c>[start:stop:step]</c> of texts, lists and tuples; bounds out of range are clamped.</summary>
internal static class Slices
{
    public static object Take(RenderRun run, object target, object? start, object? stop, object? step)
    {
        if (target is Undefined undefined) throw run.Error(undefined);
        if (target is not (string or List<object> or TemplateTuple)) throw run.Error($"{TypeNames.Of(target)} cannot be sliced");
        int length = Values.Length(target)!.Value;
        int stride = Bound(run, step, 1);
        if (stride == 0) throw run.Error("the step of a slice cannot be 0");

        int first, end;
        if (stride > 0)
        {
            first = Clamp(Bound(run, start, 0), length, 0, length);
            end = Clamp(Bound(run, stop, length), length, 0, length);
        }
        else
        {
            first = start is null or None ? length - 1 : Clamp(Bound(run, start, 0), length, -1, length - 1);
            end = stop is null or None ? -1 : Clamp(Bound(run, stop, 0), length, -1, length - 1);
        }

        if (target is string text)
        {
            if (stride == 1)
            {
                if (end <= first) return "";
                int from = CodePoints.OffsetOf(text, first);
                return run.Made(text[from..CodePoints.OffsetOf(text, end)]);
            }

            IReadOnlyList<object> characters = Values.Items(run, text);
            return run.Made(string.Concat(Pick(run, characters, first, end, stride)));
        }

        List<object> items = Pick(run, Values.Items(run, target), first, end, stride);
        return target is TemplateTuple ? new TemplateTuple(items) : items;
    }

    private static List<object> Pick(RenderRun run, IReadOnlyList<object> items, int first, int end, int stride)
    {
        List<object> picked = [];
        for (long at = first; stride > 0 ? at < end : at > end; at += stride) picked.Add(items[(int)at]);
        run.ChargeItems(picked.Count);
        return picked;
    }

    private static int Bound(RenderRun run, object? bound, int missing)
    {
        if (bound is null or None) return missing;
        if (bound is Undefined undefined) throw run.Error(undefined);
        if (!Numbers.TryToInteger(bound, out BigInteger integer)) throw run.Error($"the bounds of a slice are integers, not {TypeNames.Of(bound)}");
        return (int)BigInteger.Clamp(integer, -int.MaxValue, int.MaxValue);
    }

    private static int Clamp(int index, int length, int lowest, int highest) =>
        Math.Clamp(index < 0 ? index + length : index, lowest, highest);
}

// What a layer is given with every call. A layer itself holds parameters only; what one micro-batch keeps for its backward pass
// lies in that micro-batch's context, so several can be in flight. The context also applies the precision recipe: what is rounded,
// what is quantised, and in which format something waits for the backward pass.
// What flows between layers has one type, the flow's: BF16 where the recipe computes in it and the device holds it, else F32. Numbers
// that never flow (statistics of norms and softmax, everything of the router, logits, losses) are F32 everywhere and asked for by shape.
using Fathom.Compute;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Memory, positions and precision of one micro-batch.</summary>
public sealed class LayerContext
{
    private readonly long[] savedBytes = new long[Enum.GetValues<DType>().Length];

    /// <summary>A context on a device.</summary>
    /// <param name="device">Where the layers run.</param>
    /// <param name="training">Whether a backward pass follows.</param>
    /// <param name="recipe">How numbers are stored and multiplied.</param>
    /// <param name="byRow">Whether the bits of a row must be its own (<see cref="Device.LinearByRow"/>); not where a recipe emulates an accumulator.</param>
    public LayerContext(Device device, bool training, Recipe recipe, bool byRow = false)
    {
        (Device, Training) = (device, training);
        Recipe = recipe.On(device.HoldsBFloat16);
        Flow = device.HoldsBFloat16 ? recipe.Compute : DType.F32;
        Saved = new Arena(device, training ? MemoryKind.Activations : MemoryKind.Workspace);
        Scratch = new Arena(device, MemoryKind.Workspace);
        Faults = new FaultLog(device);
        ExactLinear = byRow && recipe.Promotion == Accumulation.Fp32 ? device.LinearByRow : Products(device, recipe);
        // Training on a processor is the oracle of training elsewhere: its products are FP32's.
        bool narrow = !training && recipe.Activation == OperandFormat.BF16 && recipe.Promotion == Accumulation.Fp32;
        Linear = narrow ? device.LinearInBFloat16 ?? ExactLinear : ExactLinear;
    }

    /// <summary>Where the layers run.</summary>
    public Device Device { get; }

    /// <summary>Products with weight matrices, summed as the recipe says.</summary>
    public ILinearOperators Linear { get; }

    /// <summary>The same for the router, whose inputs are never rounded further.</summary>
    public ILinearOperators ExactLinear { get; }

    /// <summary>Whether a backward pass follows.</summary>
    public bool Training { get; }

    /// <summary>How numbers are stored and multiplied on this device.</summary>
    public Recipe Recipe { get; }

    /// <summary>Type of what flows between layers.</summary>
    public DType Flow { get; }

    /// <summary>What is kept until the backward pass of the micro-batch.</summary>
    public Arena Saved { get; }

    /// <summary>What lives within a layer's call, and gradients between the two halves of a layer's backward pass.</summary>
    public Arena Scratch { get; }

    /// <summary>Tiles that could not be quantised.</summary>
    public FaultLog Faults { get; }

    /// <summary>Sequences in the micro-batch, B.</summary>
    public int Batch { get; set; }

    /// <summary>Position of each token in its sequence, [M], I32.</summary>
    public Tensor Positions { get; set; }

    /// <summary>Number of tokens in the micro-batch, M.</summary>
    public long Tokens => Positions.Elements;

    /// <summary>Whether results as they flow are what the backward pass reads, or there is none: they are then never copied.</summary>
    internal bool KeepsResults => !Training || Recipe.Compute == Flow;

    private OperandFormat Flowing => new(Flow);

    /// <summary>Bytes of each element type in <see cref="Saved"/>, scales counted with their own type.</summary>
    public ReadOnlySpan<long> SavedBytes => savedBytes;

    /// <summary>Forgets everything of the micro-batch before.</summary>
    internal void Reset()
    {
        Saved.Reset();
        Scratch.Reset();
        Faults.Advance();
        Array.Clear(savedBytes);
    }

    /// <summary>A matrix that flows on, in <see cref="Saved"/>.</summary>
    internal Tensor SaveResult(long rows, long columns) => Save(new Shape(rows, columns), Flow);

    /// <summary>A tensor in <see cref="Saved"/>.</summary>
    internal Tensor Save(Shape shape, DType dtype = DType.F32)
    {
        Tensor tensor = Saved.Take(shape, dtype);
        savedBytes[(int)dtype] += tensor.Bytes;
        return tensor;
    }

    /// <summary>A matrix that flows on, in <see cref="Scratch"/>.</summary>
    internal Tensor Temporary(long rows, long columns) => Scratch.Take(new Shape(rows, columns), Flow);

    /// <summary>A vector that only a backward pass reads: empty in inference.</summary>
    internal Tensor SaveForBackward(long elements, DType dtype = DType.F32) => Training ? Save(new Shape(elements), dtype) : default;

    /// <summary>Memory for a result: where it is kept if it is kept as it is, else for the call only.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="kept">The format in which the backward pass finds it, or null where it does not need it.</param>
    internal Tensor Result(long rows, long columns, OperandFormat? kept) =>
        !Training || kept == Flowing ? SaveResult(rows, columns) : Temporary(rows, columns);

    /// <summary>Rounds a result to what the recipe computes in, where it does not lie in that type anyway.</summary>
    internal void Round(Tensor x)
    {
        if (Recipe.Compute == DType.BF16 && Flow == DType.F32) Device.Quantization.RoundToBFloat16(x);
    }

    /// <summary>A result as the backward pass will find it: the result itself in inference, and where it is saved already as it flows.</summary>
    internal ScaledTensor Keep(Tensor x, OperandFormat format, OperandName name)
    {
        if (!Training || format == Flowing && Saved.Holds(x)) return x;
        if (format == Flowing)
        {
            Tensor copy = SaveResult(x.Rows, x.Columns);
            Device.Reduction.Copy(x, copy);
            return copy;
        }

        ScaledTensor kept = TakeSaved(x.Rows, x.Columns, format);
        Device.Quantization.Quantize(x, kept, format.IsPlain ? default : Faults.Next(name));
        return kept;
    }

    /// <summary>A result as the backward pass will find it and as an operand; where both are quantised, the device may read it once for both.</summary>
    /// <param name="x">[M, N], rounded.</param>
    /// <param name="format">What the product takes.</param>
    /// <param name="saved">In which format it is kept.</param>
    /// <param name="name">What it is, for messages.</param>
    internal LinearInput OperandAndKept(Tensor x, OperandFormat format, OperandFormat saved, OperandName name)
    {
        if (!Training || saved.IsPlain || format.IsPlain)
        {
            ScaledTensor plain = Keep(x, saved, name);
            return new LinearInput(Operand(x, format, name), plain);
        }

        ScaledTensor kept = TakeSaved(x.Rows, x.Columns, saved), operand = format.Take(new Shape(x.Rows, x.Columns), new ArenaSource(Scratch));
        Device.Quantization.QuantizeTwice(x, new CodesTarget(kept, Faults.Next(name)), new CodesTarget(operand, Faults.Next(name)));
        return new LinearInput(operand, kept);
    }

    /// <summary>Memory for what is kept in a format.</summary>
    internal ScaledTensor TakeSaved(long rows, long columns, OperandFormat format) => format.Take(new Shape(rows, columns), new SavedSource(this));

    /// <summary>What was kept, as it flowed: itself where it was kept so, else in <see cref="Scratch"/>.</summary>
    internal Tensor Recall(in ScaledTensor kept) => Recall(kept, Flow);

    /// <summary>A result that does not flow on (logits' gradients), as a product with what flowed takes it.</summary>
    internal Tensor ToFlow(Tensor x)
    {
        if (x.DType == Flow) return x;
        Tensor flowing = Temporary(x.Rows, x.Columns);
        Device.Reduction.Convert(x, flowing);
        return flowing;
    }

    /// <summary>
    /// A matrix as an operand: itself where the format is plain (its values are rounded already) or the one it has, else quantised
    /// into <see cref="Scratch"/>.
    /// </summary>
    /// <param name="x">[M, N], with or without scales.</param>
    /// <param name="format">What the product takes.</param>
    /// <param name="name">What it is, for messages.</param>
    /// <param name="rowOffsets">Where rows are grouped, [E + 1].</param>
    internal ScaledTensor Operand(in ScaledTensor x, OperandFormat format, OperandName name, Tensor rowOffsets = default)
    {
        if (format.IsPlain || x.Layout == format.Layout && x.DType == format.Elements) return x;
        ScaledTensor operand = format.Take(new Shape(x.Shape.Rows, x.Shape.Columns), new ArenaSource(Scratch), rowOffsets.IsEmpty ? 0 : (int)rowOffsets.Elements - 1);
        // What is quantised again goes through F32: rounding it to BF16 between would be an error of its own.
        Tensor values = x.Layout == ScaleLayout.None ? Recall(x) : Recall(x, DType.F32);
        Device.Quantization.Quantize(values, operand, Faults.Next(name), rowOffsets, name.LeastAmax);
        return operand;
    }

    /// <summary>
    /// An operand of a weight gradient: itself where the format is plain or it is one already, else quantised over tokens into
    /// <see cref="Scratch"/>, in the layout that the device's products take.
    /// </summary>
    /// <param name="x">[M, columns], with or without scales.</param>
    /// <param name="name">What it is, for messages.</param>
    /// <param name="outputs">N of the weight.</param>
    /// <param name="inputs">K of the weight.</param>
    /// <param name="rowOffsets">Where rows are grouped, [E + 1].</param>
    internal ScaledTensor OverTokens(in ScaledTensor x, OperandName name, long outputs, long inputs, Tensor rowOffsets = default)
    {
        if (x.Layout == ScaleLayout.TransposedColumnTile) return x;
        OperandFormat format = Recipe.WeightGradient;
        bool readable = x.Layout == ScaleLayout.None || x.Layout == ScaleLayout.RowTile && x.DType is DType.F8E4M3 or DType.E5M6Pair;
        if (!readable || !OutputGradient.IsTransposed(Recipe, Device.Traits, outputs, inputs)) return Operand(x, format, name, rowOffsets);
        ScaledTensor operand = TakeOverTokens(x.Shape.Rows, x.Shape.Columns, rowOffsets);
        Device.Quantization.QuantizeTransposed(x, operand, Faults.Next(name), rowOffsets, name.LeastAmax);
        return operand;
    }

    /// <summary>Memory for codes over tokens whose elements lie transposed.</summary>
    /// <param name="rows">M.</param>
    /// <param name="columns">Columns of the values.</param>
    /// <param name="rowOffsets">Where rows are grouped, [E + 1].</param>
    internal ScaledTensor TakeOverTokens(long rows, long columns, Tensor rowOffsets = default)
    {
        long tiles = rowOffsets.IsEmpty ? ScaledTensor.Tiles(rows) : ScaledTensor.GroupedTileRows(rows, (int)rowOffsets.Elements - 1);
        return new ScaledTensor(
            Scratch.Take(new Shape(columns, tiles * ScaledTensor.TileSize), Recipe.WeightGradient.Elements), Scratch.Take(new Shape(tiles, columns)), ScaleLayout.TransposedColumnTile);
    }

    /// <summary>The input of linear layers: as the forward products take it, and as it waits for the weight gradients.</summary>
    /// <param name="x">[M, N], rounded.</param>
    /// <param name="format">What the products take.</param>
    /// <param name="plain">The same as kept without scales, or empty where it is computed again.</param>
    /// <param name="name">What it is, for messages.</param>
    internal LinearInput Input(Tensor x, OperandFormat format, in ScaledTensor plain, OperandName name)
    {
        if (format.IsPlain) return new LinearInput(x, plain);
        if (!Training || Recipe.SavedLinearInput.Elements == format.Elements)
        {
            ScaledTensor both = Training ? Keep(x, format, name) : Operand(x, format, name);
            return new LinearInput(both, both);
        }

        ScaledTensor kept = Recipe.SavedLinearInput.IsPlain && !plain.IsEmpty ? plain : Keep(x, Recipe.SavedLinearInput, name);
        return new LinearInput(Operand(x, format, name), kept);
    }

    private static ILinearOperators Products(Device device, Recipe recipe)
    {
        try
        {
            return device.LinearWith(recipe.Promotion);
        }
        catch (NotSupportedException e)
        {
            throw new FathomException($"recipe: promotion {recipe.Promotion} is emulated, which {device.Name} does not; leave it at fp32, or train on the processor", e);
        }
    }

    private Tensor Recall(in ScaledTensor kept, DType type)
    {
        if (kept.Layout == ScaleLayout.None && kept.DType == type) return kept.Elements;
        Tensor values = Scratch.Take(kept.Shape, type);
        Device.Quantization.Dequantize(kept, values);
        return values;
    }

    private readonly struct SavedSource(LayerContext context) : ITensorSource
    {
        public Tensor Take(Shape shape, DType dtype) => context.Save(shape, dtype);
    }
}

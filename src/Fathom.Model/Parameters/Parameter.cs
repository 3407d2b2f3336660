// One named weight. In training it has F32 memory, a gradient and, where the recipe multiplies in another format, a copy in that
// format that is made anew once a step; in inference it is a view of a mapped checkpoint.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>A weight of the model under its published name.</summary>
public sealed class Parameter
{
    /// <summary>A parameter in training: F32 memory.</summary>
    internal Parameter(string name, Tensor value, ParameterRole role)
    {
        (Name, Value, Role) = (name, value, role);
        if (value.Shape.Rank == 3) SetOperand(value);
        else Operand = value;
    }

    /// <summary>A parameter in inference: a matrix as the checkpoint has it.</summary>
    public Parameter(string name, ScaledTensor operand, ParameterRole role)
    {
        (Name, Role, Operand) = (name, role, operand);
        if (operand.Layout == ScaleLayout.None) Value = operand.Elements;
    }

    /// <summary>A parameter in inference: the matrices of a layer's experts as the checkpoint has them.</summary>
    public Parameter(string name, ExpertWeights experts) => (Name, Role, Experts) = (name, ParameterRole.Linear, experts);

    /// <summary>
    /// The name in a checkpoint; for the stacked matrices of a layer's experts a pattern with {0} for the expert's number.
    /// </summary>
    public string Name { get; }

    /// <summary>
    /// The weights, F32 in training; [E, N, K] for stacked experts. Empty where a mapped checkpoint has them with scales or experts apart.
    /// </summary>
    public Tensor Value { get; }

    /// <summary>The weights as products take them: <see cref="Value"/> itself, or a narrower copy of it. Empty for experts.</summary>
    public ScaledTensor Operand { get; private set; }

    /// <summary>The experts' matrices as products take them, for an expert parameter.</summary>
    public ExpertWeights? Experts { get; private set; }

    /// <summary>What the parameter is to the optimizer.</summary>
    public ParameterRole Role { get; }

    /// <summary>
    /// F32 gradient of the same shape; empty until <see cref="ParameterSet.AllocateGradients"/>. While <see cref="HasGradient"/> is false it
    /// holds what an earlier step left.
    /// </summary>
    public Tensor Gradient { get; internal set; }

    /// <summary>
    /// Whether a gradient of this step was written. The first one overwrites what the step before left, so that nobody has to clear it: for
    /// the experts of a layer of V3 that is 45 GB which are neither cleared nor read.
    /// </summary>
    public bool HasGradient { get; private set; }

    /// <summary>Says that a gradient is written now.</summary>
    /// <returns>Whether it is to be added to what <see cref="Gradient"/> holds; otherwise it overwrites that.</returns>
    internal bool BeginGradient()
    {
        bool accumulate = HasGradient;
        HasGradient = true;
        return accumulate;
    }

    /// <summary>Before the gradient is read: zeros where no product wrote to it in this step.</summary>
    public void CompleteGradient(Device device)
    {
        if (!BeginGradient()) device.Reduction.Zero(Gradient);
    }

    /// <summary>After the gradient was used: the next one overwrites it.</summary>
    public void ForgetGradient() => HasGradient = false;

    /// <summary>Sets what products take, [N, K] or [E, N, K].</summary>
    internal void SetOperand(in ScaledTensor operand)
    {
        if (operand.Shape.Rank == 3) Experts = new ExpertWeights(operand);
        Operand = operand;
    }

    /// <summary>The checkpoint's tensors that make up this parameter, with their memory.</summary>
    public IEnumerable<(string Name, Tensor Value)> CheckpointTensors() => Split(Value);

    /// <summary>Any tensor of the parameter's shape (a moment, an average), cut and named as <see cref="CheckpointTensors"/> does.</summary>
    public IEnumerable<(string Name, Tensor Value)> Split(Tensor like)
    {
        if (Experts is null)
        {
            yield return (Name, like);
            yield break;
        }

        for (int e = 0; e < Experts.Count; e++)
        {
            string name = ExpertName(Name, e);
            yield return (name, like.IsEmpty ? Experts[e].Elements : like.At(e));
        }
    }

    /// <summary>The checkpoint name of one expert's matrix.</summary>
    internal static string ExpertName(string pattern, int expert) =>
        pattern.Replace("{0}", expert.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal);

    /// <inheritdoc/>
    public override string ToString() => $"{Name} {(Experts is null ? Operand : Experts[0])}";
}

/// <summary>What a parameter is to initialisation and optimizer.</summary>
public enum ParameterRole
{
    /// <summary>The matrix of a linear layer that the recipe quantises: normal initial values, weight decay.</summary>
    Linear,

    /// <summary>A matrix that is never quantised: the head, the joining projection of MTP.</summary>
    Matrix,

    /// <summary>The embedding table: its rows are looked up, not multiplied.</summary>
    Embedding,

    /// <summary>The router's matrix: F32 throughout.</summary>
    Router,

    /// <summary>A norm's weight: starts at one, no decay.</summary>
    NormWeight,

    /// <summary>A routing bias: starts at zero, has no gradient, is moved by the load after each step.</summary>
    RoutingBias,
}

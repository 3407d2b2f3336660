namespace Fathom.Compute.Cuda.Runtime;

/// <summary>What the compiler made of a source file.</summary>
/// <param name="Image">Machine code for one architecture.</param>
/// <param name="Names">The name in the image of each instantiation.</param>
/// <param name="Compiler">Version of the compiler.</param>
internal sealed record CompiledKernels(byte[] Image, IReadOnlyDictionary<string, string> Names, string Compiler);

// What examples/onnx/Score.cs uses of Microsoft.ML.OnnxRuntime, to compile it where that is not at hand.
using System;
using System.Collections.Generic;

namespace Microsoft.ML.OnnxRuntime.Tensors
{
    public abstract class Tensor<T> { }

    public class DenseTensor<T> : Tensor<T>
    {
        public DenseTensor(Memory<T> memory, ReadOnlySpan<int> dimensions, bool reverseStride = false) { }
    }
}

namespace Microsoft.ML.OnnxRuntime
{
    public class NodeMetadata
    {
        public int[] Dimensions { get { return null; } }
    }

    public class NamedOnnxValue
    {
        public static NamedOnnxValue CreateFromTensor<T>(string name, Tensors.Tensor<T> value) { return null; }
        public IEnumerable<T> AsEnumerable<T>() { return null; }
    }

    public class DisposableNamedOnnxValue : NamedOnnxValue, IDisposable
    {
        public void Dispose() { }
    }

    public interface IDisposableReadOnlyCollection<T> : IReadOnlyCollection<T>, IReadOnlyList<T>, IDisposable { }

    public class InferenceSession : IDisposable
    {
        public InferenceSession(string modelPath) { }
        public IReadOnlyDictionary<string, NodeMetadata> InputMetadata { get { return null; } }
        public IDisposableReadOnlyCollection<DisposableNamedOnnxValue> Run(
            IReadOnlyCollection<NamedOnnxValue> inputs, IReadOnlyCollection<string> outputNames) { return null; }
        public void Dispose() { }
    }
}

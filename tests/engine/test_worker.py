"""What our worker mends in the pinned vLLM and PyTorch, by itself."""

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore")
def test_an_fp8_product_by_way_of_bfloat16_is_the_product() -> None:
    from slipstream_runtime.engine import worker

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(7, 128, generator=generator).to(torch.float8_e4m3fn)
    b = torch.randn(64, 128, generator=generator).to(torch.float8_e4m3fn).t()
    scale = torch.tensor([0.5])
    expected = a.double() @ b.double() * 0.5
    found = worker.scaled_mm(a, b, scale_a=scale, scale_b=torch.ones(1), out_dtype=torch.float32)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, rtol=1 / 128, atol=1 / 16)


@pytest.mark.filterwarnings("ignore")
def test_each_requests_value_is_there_once_for_each_of_its_draft_tokens() -> None:
    from slipstream_runtime.engine import worker

    values = torch.tensor([0.0, 0.7])
    found = worker.expand_batch_to_tokens(
        values, torch.tensor([2, 5]), 5, replace_from=0, replace_to=1
    )
    assert found.tolist() == pytest.approx([1.0, 1.0, 0.7, 0.7, 0.7])

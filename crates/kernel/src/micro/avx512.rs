//! AVX-512: 8 rows of 3 vectors, 24 of the 32 registers for sums, 3 for `B` and the rest for `A`.

use super::MicroKernel;
use super::tile::tile_fn;
use super::transpose;

pub(super) const F64: MicroKernel<f64> = MicroKernel {
    mr: 8,
    nr: 24,
    tile: tile_f64::<3>,
    narrow: Some([tile_f64::<1>, tile_f64::<2>]),
    transpose: Some(transpose::eight_f64),
};
pub(super) const F32: MicroKernel<f32> = MicroKernel {
    mr: 8,
    nr: 48,
    tile: tile_f32::<3>,
    narrow: Some([tile_f32::<1>, tile_f32::<2>]),
    transpose: Some(transpose::eight_f32),
};

tile_fn!(
    tile_f64, f64, "avx512f", rows 8, vectors 3 x 8,
    _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_add_pd,
    _mm512_sub_pd
);

tile_fn!(
    tile_f32, f32, "avx512f", rows 8, vectors 3 x 16,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps,
    _mm512_sub_ps
);

//! What the shop sells.

/// A product. The picture of it is `templates/art/SLUG.svg`.
#[derive(Debug)]
pub struct Product {
    pub slug: &'static str,
    pub name: &'static str,
    pub line: &'static str,
    pub about: &'static str,
    pub price: &'static str,
    pub currency: &'static str,
    pub art: &'static str,
}

pub const PRODUCTS: &[Product] = &[
    Product {
        slug: "notebook",
        name: "Linen notebook",
        line: "192 pages, sewn by hand",
        about: "A cloth-bound notebook that opens flat. The paper is heavy enough for a fountain pen, and the \
                cover takes on the colour of the places you carry it to.",
        price: "24.00",
        currency: "USD",
        art: include_str!("../assets/notebook.svg"),
    },
    Product {
        slug: "pen",
        name: "Brass pen",
        line: "Turned from one bar",
        about: "A ballpoint pen of solid brass. It weighs 38 grams, takes a standard refill, and darkens with use \
                until it is unmistakably yours.",
        price: "49.00",
        currency: "USD",
        art: include_str!("../assets/pen.svg"),
    },
    Product {
        slug: "mug",
        name: "Stoneware mug",
        line: "Fired twice, holds 300 ml",
        about: "A mug with a thick wall that keeps coffee warm through a long paragraph. Each one is glazed by \
                hand, so no two are quite alike.",
        price: "32.50",
        currency: "USD",
        art: include_str!("../assets/mug.svg"),
    },
    Product {
        slug: "lamp",
        name: "Desk lamp",
        line: "Warm light, oak and steel",
        about: "A lamp that lights the page and leaves the room alone. It dims to a candle, folds flat, and can be \
                repaired with one screwdriver.",
        price: "148.00",
        currency: "USD",
        art: include_str!("../assets/lamp.svg"),
    },
];

pub fn find(slug: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.slug == slug)
}

use tokio_postgres::types::ToSql;

/// The value of a parameter.
pub(super) type Value = Box<dyn ToSql + Send + Sync>;

/// The parameters of [`Context::execute`](crate::Context::execute): an array, a `Vec`, a tuple of up to 8 values of
/// different types, or `()` for none. Their types implement [`ToSql`].
pub trait PostgresParameters: private::Values {}

impl<P: private::Values> PostgresParameters for P {}

mod private {
    use super::{ToSql, Value};

    #[allow(unnameable_types, reason = "sealed, so that methods can be added")]
    pub trait Values {
        fn into_values(self) -> Vec<Value>;
    }

    impl Values for () {
        fn into_values(self) -> Vec<Value> {
            Vec::new()
        }
    }

    impl<T: ToSql + Send + Sync + 'static, const N: usize> Values for [T; N] {
        fn into_values(self) -> Vec<Value> {
            self.into_iter().map(|value| Box::new(value) as Value).collect()
        }
    }

    impl<T: ToSql + Send + Sync + 'static> Values for Vec<T> {
        fn into_values(self) -> Vec<Value> {
            self.into_iter().map(|value| Box::new(value) as Value).collect()
        }
    }

    macro_rules! tuples {
        ($(($($name:ident)+))+) => {
            $(impl<$($name: ToSql + Send + Sync + 'static),+> Values for ($($name,)+) {
                #[allow(non_snake_case, reason = "the values have the names of their types")]
                fn into_values(self) -> Vec<Value> {
                    let ($($name,)+) = self;
                    vec![$(Box::new($name)),+]
                }
            })+
        };
    }

    tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }
}
